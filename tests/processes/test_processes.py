"""Two processes through the real command line; what they train and predict is in test_same_on_any_number.py."""

import json

from runs import QUIET, newest, run_process

SAME = ("exits", "operating_points", "operating_point", "oracle", "leaving", "area_under_curve")


def test_two_processes_report_what_one_does(in_trained_run):
    """The same checkpoint, every reported figure, thresholds and all."""
    one = json.loads((newest(in_trained_run) / "evaluation.json").read_text())
    given = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.eval_batch_size", "4"]
    done = run_process("test", "--config", "tiny.yaml", "--ckpt_path", "best", *given, *QUIET, cwd=in_trained_run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Operating points") == 1, "only one process reports"
    assert sorted(path.name for path in (in_trained_run / "runs/tiny").iterdir()) == ["version_0", "version_1"]
    two = json.loads((newest(in_trained_run) / "evaluation.json").read_text())
    for found in (one, two):
        for point in (found["operating_point"], *(p for points in found["operating_points"].values() for p in points)):
            point.pop("speedup_wall")
            point.pop("speedup_wall_range")
    assert one["samples"] == two["samples"] == 41
    for key in SAME:
        assert two[key] == one[key], key
