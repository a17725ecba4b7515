"""Which operating point a command runs at, what it says of it, and the full depth, through the real command line."""

import json
import re
import shutil
from pathlib import Path

import pytest
from runs import read_csv, run

from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.storage.atomic import atomic_write
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.model_spec import ModelSpec
from mebert.storage.operating_point import MAX_DROP

RUN = "runs/tiny/version_0"
COMMON = ["--config", "tiny.yaml", "--ckpt_path", "best"]
OLD = ["--config", "run/config.yaml", "--ckpt_path", "run/checkpoints/best.ckpt"]
FIXTURE = Path(__file__).parents[1] / "fixtures/v0_1_0/run"
TEXT = ["--text", "a cat", "--samples", "0", "--device", "cpu"]
BENCH = ["--samples", "4", "--rounds", "1", "--batch_sizes", "2", "--breakdown", "false", "--baselines", "unsorted"]
BENCH += ["--device", "cpu", "--precisions", "float32", "--max_length", "64", "--speedups", "1"]


def said(text):
    """The operating points that a text names, and what is expected of each."""
    return tuple(re.findall(rf"{name} +(.+)", text) for name in ("operating point", "expected"))


def say(capsys, *words):
    """The operating points and expectations that a command prints, and the commands that it names at its end."""
    capsys.readouterr()
    own = words[0] in ("inspect", "bench", "calibrate")
    assert (main(list(words)) if own else run(*words)) == 0
    out = capsys.readouterr().out
    return *said(out), out.rpartition("\nNext:\n")[2]


def exits_of(path):
    return {int(row["exit"]) for row in read_csv(path)}


@pytest.mark.slow
def test_every_command_names_the_point_in_use_and_what_is_expected(trained_run, in_trained_run, capsys):
    point = EarlyExitClassifier.from_pretrained(RUN, "cpu", "float32").operating_point
    assert point.threshold == ModelSpec.read(f"{RUN}/model").policy["init_args"]["threshold"]
    assert point.chosen_by == f"max_drop {MAX_DROP:g}"
    assert point.expected.drop <= MAX_DROP + 1e-6
    wanted = [str(point)], [str(point.expected)]
    printed = (trained_run.parent / "printed.txt").read_text()  # by `fit`, whose test is of the same checkpoint
    assert said(printed) == wanted
    for words in (
        ["validate", *COMMON],
        ["test", *COMMON],
        ["predict", *COMMON, "--out", "out.csv"],
        ["inspect", RUN, *TEXT],
        ["inspect", f"{RUN}/checkpoints/best.ckpt", *TEXT],
        ["bench", RUN, *BENCH, "--engines", "shrink"],
        ["calibrate", RUN, "--speedup", "1.2", "--save", "false", "--device", "cpu"],
    ):
        assert say(capsys, *words)[:2] == wanted, words


def test_a_given_point_is_named_with_its_own_expectation(in_trained_run, capsys):
    classify = EarlyExitClassifier.from_pretrained(RUN, "cpu", "float32")
    point = classify.point_of(speedup=1.5)
    assert (point.chosen_by, point.expected.speedup >= 1.5) == ("speedup 1.5", True)
    found = say(capsys, "predict", *COMMON, "--speedup", "1.5", "--out", "out.csv")
    assert found[:2] == ([str(point)], [str(point.expected)])
    (name,), (expected,), _ = say(capsys, "predict", *COMMON, "--predictions.threshold", "0.5", "--out", "out.csv")
    assert "threshold 0.5" in name
    assert "on 41 rows of validation data" in expected
    assert classify.point_of(threshold=0.123456).expected is None, "a model folder knows what was stored"


def test_a_speedup_of_1_is_the_full_depth_everywhere(in_trained_run, capsys):
    for engine in ("shrink", "full", "refill", "predicted"):
        (name,), (expected,), _ = say(
            capsys, "predict", *COMMON, "--speedup", "1", "--engine", engine, "--out", "o.csv"
        )
        assert exits_of("o.csv") == {3}
        assert "threshold 0, full depth (by speedup 1)" in name
        assert "drop 0.0000, 1.00x by layers (95 %: 1.00-1.00)" in expected
        classify = EarlyExitClassifier.from_pretrained(RUN, "cpu", "float32")
        assert {one.exit for one in classify(["a cat", "the dog"], speedup=1, engine=engine)} == {3}
    assert say(capsys, "inspect", RUN, *TEXT, "--speedup", "1")[0] == [str(classify.point_of(speedup=1))]
    assert main(["calibrate", RUN, "--speedup", "1", "--speedup_flops", "1", "--device", "cpu"]) == 0
    assert ModelSpec.read(f"{RUN}/model").operating_points["edr"][1.0] == 0.0
    assert main(["bench", RUN, *BENCH, "--engines", "shrink", "predicted", "--out", "bench"]) == 0
    rows = [row for row in json.loads(Path("bench/bench.json").read_text())["rows"] if row["policy"]]
    assert rows
    assert {row["mean_layers"] for row in rows} == {3.0}


def test_what_comes_next_is_faster_than_what_ran(in_trained_run, capsys):
    for speedup in ("1.2", "1.5", "2"):
        _, (expected,), found = say(capsys, "predict", *COMMON, "--speedup", speedup, "--out", "out.csv")
        reached = float(re.search(r"([\d.]+)x by layers", expected)[1])
        (offered,) = re.findall(r"--speedup ([\d.]+)", found)
        assert float(offered) > reached or offered == "1", (speedup, found)
        assert (offered == "1") == (reached * 1.05 >= 2), "all layers only where nothing faster is stored"


@pytest.mark.parametrize("value", ["1", "2.5"])
@pytest.mark.parametrize("words", [["calibrate", RUN, "--max_drop"], ["predict", *COMMON, "--max_drop"]])
def test_a_percentage_is_asked_about(value, words, in_trained_run, capsys):
    assert (main if words[0] == "calibrate" else lambda given: run(*given))([*words, value]) == 2
    error = capsys.readouterr().err
    assert f"max_drop {value} would allow any loss" in error
    assert f"max_drop {float(value) / 100:g}" in error


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of a run of mebert 0.1.0, whose checkpoint keeps a validation pass, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(FIXTURE, tmp_path / "run")


def test_a_run_of_0_1_0_is_judged_by_the_pass_that_it_keeps(old, capsys):
    (name,), (expected,), _ = say(capsys, "predict", *OLD, "--out", "out.csv")
    assert "(by max_drop 0.005)" in name
    assert float(re.search(r"drop (-?[\d.]+)", expected)[1]) <= 0.005


def test_without_a_pass_a_run_of_0_1_0_keeps_its_threshold_and_says_so(old, capsys, caplog):
    path = old / "checkpoints/best.ckpt"
    content = read_checkpoint(path)
    del content["mebert"]["validation_record"]
    atomic_write(content, path)
    with pytest.warns(UserWarning, match="keeps its threshold, by mebert 0.1.0"):
        (name,), (expected,), _ = say(capsys, "predict", *OLD, "--out", "out.csv")
    assert name.startswith("edr, threshold 0.9984 (by mebert 0.1.0")
    assert expected.startswith("not known")
    with pytest.warns(UserWarning, match="edr keeps its threshold, by mebert 0.1.0"):
        point = EarlyExitClassifier.from_pretrained(old, "cpu", "float32").operating_point
    assert point.threshold == pytest.approx(0.99842, abs=1e-5)


def test_calibrate_makes_another_point_the_default(in_trained_run, capsys):
    words = ["--max_drop", "0.3", "--policies", "[entropy]", "--use", "entropy", "--device", "cpu"]
    (name,), (expected,), _ = say(capsys, "calibrate", RUN, *words)
    point = EarlyExitClassifier.from_pretrained(RUN, "cpu", "float32").operating_point
    assert (str(point), str(point.expected)) == (name, expected)
    assert point.chosen_by == "calibrate, max_drop 0.3"
    assert "the run, val" in expected
