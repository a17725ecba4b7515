"""Every recipe, stopped anywhere, ends as the one that never was: what a kill leaves is what lies on the disk then."""

import json
from pathlib import Path

import pytest
from resume.recipes import RECIPES, settings_of
from resume.same import differences, end_of, validations
from runs import run, write_config

STOPS = {
    **{recipe: [(1, 4)] for recipe in RECIPES},
    "FastBERTModule": [(0, 5), (1, 0), (1, 4)],  # in either stage, and right between them
    "DeeBERTModule": [(1, 0)],
    "scores by inference": [(1, 0)],  # the rows are scored before the first batch
}
# Stages and prototypes; the rest is slow.
QUICK = ("FastBERTModule", "ProtoExitModule")
RESUMED_AT = {(0, 5): [0, 3], (1, 0): [1, 0], (1, 4): [1, 2]}  # a checkpoint every 3 steps, and after epochs


@pytest.mark.filterwarnings("error:.*could not find the monitored key")
@pytest.mark.parametrize(
    "recipe",
    [r if r in QUICK else pytest.param(r, marks=pytest.mark.slow) for r in RECIPES],
)
def test_a_stopped_training_ends_as_the_whole_one(tmp_path, monkeypatch, recipe):
    config = str(write_config(tmp_path, settings_of(recipe)))
    stops = {stop: f"cut_{stop[0]}_{stop[1]}" for stop in STOPS[recipe]}
    monkeypatch.setenv("SNAPSHOTS", json.dumps([[*stop, f"runs/{name}"] for stop, name in stops.items()]))
    assert run("fit", "--config", config, "--experiment", "whole") == 0
    monkeypatch.setenv("SNAPSHOTS", "[]")
    for stop, name in stops.items():
        monkeypatch.setenv("NOTES", f"{name}.jsonl")
        assert run("fit", "--config", config, "--experiment", name, "--ckpt_path", "last") == 0
        first = json.loads(Path(f"{name}.jsonl").read_text().splitlines()[0])
        assert first[1:3] == RESUMED_AT[stop]
        assert differences(end_of(Path("runs/whole")), end_of(Path("runs", name))) == []
        assert differences(validations(Path("runs/whole")), validations(Path("runs", name))) == []
