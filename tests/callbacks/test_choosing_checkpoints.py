"""The best checkpoint by the mean over exits, a policy's area or the operating point; thresholds without effect."""

import json
import math
import re
import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from runs import experiment, read_csv, run, write_config
from tiny import quiet_trainer

from mebert.callbacks.best_checkpoint import BestCheckpoint
from mebert.callbacks.progress import ProgressLines
from mebert.metrics.task import score_to_choose
from mebert.modules import FastBERTModule
from mebert.report.comparison import best_policy

MONITORS = {
    "best": "val/auc",
    "score": "val/score",
    "edr": "val/auc_edr",
    "dr": "val/auc_dr",
    "entropy": "val/auc_entropy",
    "max_prob": "val/auc_max_prob",
    "margin": "val/auc_margin",
    "point": "val/operating_point/acc",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three epochs with one checkpoint for each monitor; lambda is chosen anew after each."""
    folder = tmp_path_factory.mktemp("choosing")
    settings = experiment(lam_grid=[0.0, 1.0, 4.0], pooling="mean", learning_rate=2e-2)
    settings["data"]["init_args"] |= {"train_samples": 256, "eval_samples": 100, "eval_batch_size": 50}
    settings["trainer"] |= {"max_epochs": 3, "num_sanity_val_steps": 0, "default_root_dir": str(folder / "runs")}
    settings["trainer"]["callbacks"] = [
        {
            "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
            "init_args": {"monitor": monitor, "mode": "max", "filename": name, "enable_version_counter": False},
        }
        for name, monitor in MONITORS.items()
        if name != "best"
    ]
    path = write_config(folder, settings)
    assert run("fit", "--config", str(path), "--checkpoint.monitor", "val/auc", "--curve.wall_samples", "0") == 0
    return folder / "runs/tiny/version_0"


def test_each_checkpoint_is_that_of_its_best_epoch(trained):
    rows = [row for row in read_csv(trained / "metrics.csv") if row["val/score"]]
    assert len(rows) == 3
    for name, monitor in MONITORS.items():
        values = [float(row[monitor]) for row in rows]
        kept = torch.load(trained / f"checkpoints/{name}.ckpt", weights_only=True)["epoch"]
        assert values[kept] == max(values), monitor
    assert [row["val/auc"] for row in rows] == [row["val/auc_edr"] for row in rows]
    assert len({row["val/auc"] for row in rows}) > 1
    tested = json.loads((trained / "evaluation.json").read_text())["checkpoint"]
    assert tested == str(trained / "checkpoints/best.ckpt"), "not one of the others"


def warned(*arguments):
    """Run a command; its warnings about a threshold without effect."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert run(*arguments) == 0
    return [str(one.message) for one in found if "decides nothing" in str(one.message)]


def predict_at(trained, folder, threshold):
    """Predict at a threshold; the warnings about it."""
    at_best = ["--config", str(trained / "config.yaml"), "--ckpt_path", str(trained / "checkpoints/best.ckpt")]
    root = ["--trainer.default_root_dir", str(folder)]
    return warned("predict", *at_best, *root, "--predictions.threshold", repr(threshold))


@pytest.mark.slow
def test_a_threshold_out_of_range_is_told(trained, tmp_path):
    (line,) = predict_at(trained, tmp_path, 0.0001)
    assert "the threshold 0.0001 of the policy 'edr'" in line
    assert "every sample runs all layers" in line
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    recorded = checkpoint["mebert"]["validation_record"]["scores/edr"]
    low, high = (float(x) for x in re.search(r"above (\S+) and at most (\S+)$", line).groups())
    assert low == pytest.approx(float(recorded[:-1].min()), rel=1e-5)
    assert high == pytest.approx(float(recorded[0].max()), rel=1e-5)
    point = json.loads((trained / "evaluation.json").read_text())["operating_points"]["edr"][1]["threshold"]
    assert predict_at(trained, tmp_path, point) == [], "it is in range"


@pytest.mark.slow
def test_fit_and_test_tell_it_too(here):
    settings = experiment(threshold=1e-6)
    settings["trainer"]["max_epochs"] = 1
    path = write_config(here, settings)
    first, second = warned("fit", "--config", str(path), "--curve.wall_samples", "0")
    assert "on validation data" in first
    assert "on the split test" in second


def test_in_a_first_stage_the_area_is_below_any_of_the_second():
    """Two-stage recipes: exits that know nothing yet must not be kept as the best."""
    first, second = (FastBERTModule.score_of_curve(SimpleNamespace(stage=stage), 0.7) for stage in (1, 2))
    assert (first, second) == (pytest.approx(-1.3), 0.7)


VALUES = {
    "in_between": ([0.2, math.nan, 0.5, math.nan, 0.4], 2),
    "first": ([math.nan, -0.5, math.nan], 1),
    "never": ([math.nan, math.nan, math.nan], 2),
    "below_0": ([-0.1, math.nan, -0.2], 0),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_score_without_a_value_ranks_last(case, tmp_path):
    """Through Lightning's own loop: NaN is never the best, and without any score the newest checkpoint is kept."""
    scores, best = VALUES[case]

    class Scored(BoringModel):
        def on_validation_epoch_end(self):
            self.log("val/score", torch.tensor(scores[self.trainer.current_epoch]))

    lines = ProgressLines()
    kept = BestCheckpoint(dirpath=tmp_path, monitor="val/score", mode="max", filename="{epoch}")
    trainer = quiet_trainer(kept, lines, max_epochs=len(scores), enable_checkpointing=True, limit_val_batches=1)
    trainer.fit(Scored())
    assert torch.load(kept.best_model_path, weights_only=True)["epoch"] == best
    known = [score for score in scores if not math.isnan(score)]
    assert lines._best == (pytest.approx(max(known)) if known else None)


def test_policies_without_an_area_rank_last():
    results = {n: SimpleNamespace(val_area=a) for n, a in {"a": math.nan, "b": None, "c": -0.4, "d": -0.2}.items()}
    assert best_policy(results) == "d"
    assert best_policy({"a": results["a"], "b": results["b"]}) is None
    assert sorted(results, key=lambda n: -score_to_choose(results[n].val_area)) == ["d", "c", "a", "b"]
