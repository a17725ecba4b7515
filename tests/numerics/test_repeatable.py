"""The same seed makes the same run, bit for bit on a CPU: weights, thresholds, figures. Another seed makes another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from resume.same import differences
from runs import OWN_SETTINGS, experiment, run, write_config

from mebert import modules
from mebert.storage.checkpoints import read_checkpoint

QUICK = ("FastBERTModule",)  # of two stages; the rest is slow
OF_THE_CLOCK = ("wall", "seconds", "checkpoint")


def prepared(folder: Path, recipe: str, epochs: int = 1, **data: Any) -> str:
    """A run with everything that draws at random: dropout, order, new weights."""
    settings = experiment(recipe, dropout=0.1)
    settings["trainer"]["max_epochs"] = 2 if "stage1_epochs" in OWN_SETTINGS.get(recipe, {}) else epochs
    settings["curve"] = {"wall_samples": 0, "points": [1.2, 1.5]}
    settings["data"]["init_args"] |= {"train_samples": 64, **data}
    return str(write_config(folder, settings))


def result_of(experiment_name: str) -> dict[str, Any]:
    """All that a run has found: its checkpoint's weights and thresholds, and its figures without those of a clock."""
    folder = Path("runs") / experiment_name / "version_0"
    best, last = (read_checkpoint(folder / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return {
        "weights": best["state_dict"],
        "optimizer": last["optimizer_states"],
        "mebert": best["mebert"],
        "evaluation": timeless(evaluation),
        "curve": (folder / "curve.csv").read_text(encoding="utf-8"),
    }


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not any(word in k for word in OF_THE_CLOCK)}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def fit(config: str, name: str, *more: str) -> dict[str, Any]:
    assert run("fit", "--config", config, "--experiment", name, *more) == 0
    return result_of(name)


@pytest.mark.parametrize(
    "recipe", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in modules.__all__]
)
def test_two_runs_with_one_seed_are_equal(recipe, here):
    config = prepared(here, recipe)
    one = fit(config, "one")
    torch.rand(17)  # what this process has drawn so far makes no difference
    assert differences(one, fit(config, "two")) == []


@pytest.mark.parametrize("recipe", ["ProtoExitModule", pytest.param("FastBERTModule", marks=pytest.mark.slow)])
def test_another_seed_makes_another_run(recipe, here):
    config = prepared(here, recipe)
    found = differences(fit(config, "one"), fit(config, "two", "--seed_everything", "43"))
    assert any(place.startswith("/weights/model.exits.0") for place in found)
    assert any(place.startswith("/weights/model.encoder") for place in found)
    assert any(place.startswith("/evaluation/") for place in found)


@pytest.mark.slow
def test_worker_processes_change_nothing(here):
    config = prepared(here, "ProtoExitModule")
    without = fit(config, "without")
    one = fit(config, "one", "--data.num_workers", "1")
    assert differences(one, fit(config, "two", "--data.num_workers", "1")) == []
    assert differences(one, without) == [], "the order is drawn in the parent"


@pytest.mark.slow
def test_a_curriculum_is_repeatable(here):
    """Measured by the model in training, so that each epoch's order comes from the weights."""
    settings = ["--data.class_path", "mebert.SyntheticCurriculumDataModule"]
    settings += ["--data.difficulty", "mebert.curriculum.ExitErrorRate"]
    config = prepared(here, "CurriculumDistillModule", epochs=2)
    one = fit(config, "one", *settings)
    assert differences(one, fit(config, "two", *settings)) == []
    other = fit(config, "three", *settings, "--seed_everything", "7")
    assert any(place.startswith("/weights/") for place in differences(one, other))


def test_the_comparison_sees_a_single_bit():
    one = {"weights": {"a": torch.tensor([1.0, float("nan")])}, "x": [1, {"y": 2.0}]}
    other = {"weights": {"a": torch.tensor([1.0 + 2**-23, float("nan")])}, "x": [1, {"y": 2.0}]}
    assert differences(one, one) == []
    assert differences(one, other) == ["/weights/a"]
    assert differences(one, {**one, "x": [1, {"y": 2.5}]}) == ["/x/1/y"]
    assert differences(one, {**one, "z": 1}) == [": ['z']"]
