"""What the page and the picture are made of: bands over seeds, names of runs, settings that differ, colours."""

import os

import numpy as np
import pytest
import scipy.stats
import yaml
from made_runs import made_run, write_metrics, write_settings

from mebert.commands.compare.band import band_caption, band_over
from mebert.commands.compare.run_view import read_run
from mebert.commands.compare.seed_groups import seed_groups, task_groups
from mebert.commands.compare.settings import differences, flat, names_of
from mebert.errors import UserError
from mebert.report.page import styles


def test_bands_against_scipy():
    table = np.random.default_rng(0).normal(size=(5, 3))
    band = band_over(table)
    low, high = scipy.stats.t.interval(0.95, 4, loc=table.mean(0), scale=scipy.stats.sem(table))
    assert (band.low, band.high) == (pytest.approx(low), pytest.approx(high))
    two = band_over(table[:2])
    assert (list(two.low), list(two.high)) == (list(table[:2].min(0)), list(table[:2].max(0)))
    assert band_over(table[:1]).low is None
    assert "95 %" in band_caption([1, 3])
    assert band_caption([1, 1]) == ""


def test_lines_are_runs_that_differ_in_the_seed_alone(tmp_path):
    made_run(tmp_path / "a", 1, exit_weights="uniform")
    made_run(tmp_path / "b", 2, exit_weights="uniform")
    made_run(tmp_path / "c", 1, exit_weights="depth")
    made_run(tmp_path / "d", 1, exit_weights="depth")  # the same seed again: no second seed
    runs = [read_run(tmp_path / name, n, tested=False) for n, name in enumerate("abcd", start=1)]
    (lines,) = seed_groups(task_groups(runs))
    folder = tmp_path.name
    assert {line.name: [run.number for run in line.runs] for line in lines} == {
        "MultiExit exit_weights=uniform": [1, 2],
        f"MultiExit exit_weights=depth ({folder}/c)": [3],
        f"MultiExit exit_weights=depth ({folder}/d)": [4],
    }
    config = yaml.safe_load((tmp_path / "c/config.yaml").read_text())
    assert flat(config)["model.init_args.exit_weights"] == "depth"
    assert list(differences([run.settings for run in runs[:2]])) == ["experiment", "seed_everything"]


def test_names_tell_apart_what_two_settings_can():
    configs = [{"model.class_path": "m.A", "model.init_args.x": str(n), "z": str(n), "y": str(n % 2)} for n in range(3)]
    assert names_of(["A"] * 3, configs, ["r/1", "r/2", "r/3"]) == ["A", "A x=1, z=1", "A x=2, z=2"], "model's first"
    assert names_of(["A", "B"], [{"x": "1"}, {"x": "2"}], ["r/1", "r/2"]) == ["A", "B"]


def test_styles_differ_beyond_eight():
    found = styles(range(20))
    assert len({(style.colour, style.dash) for style in found.values()}) == 20
    assert found[0].colour == found[8].colour
    assert found[0].symbol != found[8].symbol
    assert found[1].rgba(0.5) == "rgba(213, 94, 0, 0.5)"


def test_folder_of_several_runs_stands_for_its_newest_tested_one(tmp_path):
    made_run(tmp_path / "x/version_2", 1)
    made_run(tmp_path / "x/version_10", 1)
    write_settings(tmp_path / "x/version_11", 1)
    write_metrics(tmp_path / "x/version_11")
    assert read_run(tmp_path / "x", 1, tested=False).folder.name == "version_10"
    assert read_run(tmp_path / "x").folder.name == "version_10"
    with pytest.raises(UserError, match=r"no config\.yaml"):
        read_run(tmp_path, 1, tested=False)


def test_folder_of_runs_of_wandb_stands_for_the_one_that_was_tested_last(tmp_path):
    """Their names are ids, which say nothing of their age; a numbered run may stand among them."""
    for age, name in enumerate(("b7", "version_0", "c1", "a9")):
        made_run(tmp_path / "x" / name, 1)
        for file in ("evaluation.json", "config.yaml"):
            os.utime(tmp_path / "x" / name / file, (1e9 - age, 1e9 - age))
    write_settings(tmp_path / "x/z5", 1)
    write_metrics(tmp_path / "x/z5")
    assert read_run(tmp_path / "x", 1, tested=False).folder.name == "b7"
    assert read_run(tmp_path / "x").folder.name == "b7"
    (tmp_path / "x/b7/outputs.safetensors").unlink()
    assert read_run(tmp_path / "x").folder.name == "version_0", "that can be compared row by row"
