"""What a run says of its curriculum, and a measure and a pacing of one's own, through the real command line."""

import csv

import pytest
from runs import experiment, newest, run, write_config

OWN = """
import numpy as np

from mebert.curriculum import DataMeasure, Pacing


class Backwards(DataMeasure):
    def __init__(self, step: float = 1.0) -> None:
        self.step = step

    def of_split(self, split):
        return -self.step * np.arange(len(split))


class Always(Pacing):
    def __init__(self, part: float = 0.5) -> None:
        super().__init__(until=1.0)
        self.part = part

    def share(self, time):
        return self.part
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def curriculum(**data):
    settings = experiment()
    settings["data"]["class_path"] = "SyntheticCurriculumDataModule"
    settings["data"]["init_args"] |= data
    settings["test_after_fit"] = False
    return settings


def logged(folder, name):
    with (newest(folder) / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def table(folder):
    with (newest(folder) / "curriculum.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_measure_and_a_pacing_of_ones_own_by_class_path(folder):
    (folder / "own_curriculum.py").write_text(OWN)
    own = {"class_path": "own_curriculum.Backwards", "init_args": {"step": 2.0}}
    pacing = {"class_path": "own_curriculum.Always", "init_args": {"part": 0.25}}
    settings = curriculum(difficulty=own, pacing=pacing, within_class=False)
    write_config(folder, settings)
    assert run("fit", "--config", "tiny.yaml", "--curriculum.samples", "2") == 0
    # The easiest quarter of 96 rows are rows 72 to 95, each shown 4 times in both epochs; difficulty is -2 * row.
    assert logged(folder, "curriculum/share") == [0.25, 0.25]
    assert logged(folder, "curriculum/difficulty_shown") == pytest.approx([-167.0, -167.0])
    assert logged(folder, "curriculum/difficulty_p50") == pytest.approx([-95.0, -95.0])
    assert logged(folder, "curriculum/difficulty_p10") == pytest.approx([-171.0, -171.0])
    rows = table(folder)
    assert [(row["epoch"], row["which"], row["index"]) for row in rows] == [
        (epoch, which, index)
        for epoch in "01"
        for which, index in [("easiest", "95"), ("easiest", "94"), ("hardest", "0"), ("hardest", "1")]
    ]
    assert [float(row["difficulty"]) for row in rows[:4]] == [-190.0, -188.0, 0.0, -2.0]


def test_the_easiest_and_hardest_samples_are_written_with_label_and_text(folder):
    settings = curriculum(difficulty={"class_path": "mebert.curriculum.KnownDifficulty"})
    write_config(folder, settings)
    assert run("fit", "--config", "tiny.yaml", "--curriculum.samples", "3", "--trainer.max_epochs", "1") == 0
    rows = table(folder)
    assert [row["which"] for row in rows] == ["easiest"] * 3 + ["hardest"] * 3
    assert [float(row["difficulty"]) for row in rows] == [1, 1, 1, 4, 4, 4]
    for row in rows:
        assert row["label"] in {"entailment", "neutral", "contradiction"}
        assert len(row["premise"]) > len(row["hypothesis"]) > 5
    facts = [len(row["premise"].split()) for row in rows]
    assert max(facts[:3]) < min(facts[3:]), "more facts are harder"


def test_scores_of_the_model_appear_with_the_epoch_that_they_order(folder):
    write_config(folder, curriculum(difficulty={"class_path": "mebert.curriculum.Loss"}))
    assert run("fit", "--config", "tiny.yaml", "--curriculum.samples", "1") == 0
    assert logged(folder, "curriculum/share") == [1.0, 1.0]
    assert len(logged(folder, "curriculum/difficulty_p50")) == 1, "nothing is known in the first epoch"
    easiest, hardest = table(folder)
    assert easiest["epoch"] == hardest["epoch"] == "1"
    low, high = (float(row["difficulty"]) for row in (easiest, hardest))
    assert low < logged(folder, "curriculum/difficulty_p10")[0] < logged(folder, "curriculum/difficulty_p90")[0] < high


def test_samples_without_a_curriculum_are_a_mistake(folder, capsys):
    write_config(folder)
    assert run("fit", "--config", "tiny.yaml", "--curriculum.samples", "5") == 2
    error = capsys.readouterr().err
    assert "curriculum.samples is 5, but SyntheticEntailmentDataModule has no curriculum" in error


def test_a_negative_number_of_samples_is_a_mistake(folder, capsys):
    write_config(folder, curriculum())
    assert run("fit", "--config", "tiny.yaml", "--curriculum.samples", "-1") == 2
    assert "curriculum.samples must be at least 0, got -1" in capsys.readouterr().err
