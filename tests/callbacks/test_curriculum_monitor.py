"""What a run says of its curriculum, and a measure and a pacing of one's own, through the real command line."""

import pytest
from runs import experiment, newest, read_csv, run, write_config

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


def fit(folder, *given, **data):
    """Train with a curriculum; returns the logged values by name, and the rows of curriculum.csv."""
    settings = experiment()
    settings["data"]["class_path"] = "SyntheticCurriculumDataModule"
    settings["data"]["init_args"] |= data
    write_config(folder, settings | {"test_after_fit": False})
    assert run("fit", "--config", "tiny.yaml", *given) == 0
    metrics = read_csv(newest(folder) / "metrics.csv")
    logged = {name: [float(row[name]) for row in metrics if row[name]] for name in metrics[0] if "curriculum" in name}
    return logged, read_csv(newest(folder) / "curriculum.csv")


@pytest.mark.slow
def test_a_measure_and_a_pacing_of_ones_own_by_class_path(here):
    (here / "own_curriculum.py").write_text(OWN)
    own = {"class_path": "own_curriculum.Backwards", "init_args": {"step": 2.0}}
    pacing = {"class_path": "own_curriculum.Always", "init_args": {"part": 0.25}}
    logged, rows = fit(here, "--curriculum.samples", "2", difficulty=own, pacing=pacing, within_class=False)
    # The easiest quarter of 96 rows are rows 72 to 95, each shown 4 times in both epochs; difficulty is -2 * row.
    assert logged["curriculum/share"] == [0.25, 0.25]
    assert logged["curriculum/difficulty_shown"] == pytest.approx([-167.0, -167.0])
    assert logged["curriculum/difficulty_p50"] == pytest.approx([-95.0, -95.0])
    assert logged["curriculum/difficulty_p10"] == pytest.approx([-171.0, -171.0])
    assert [(row["epoch"], row["which"], row["index"]) for row in rows] == [
        (epoch, which, index)
        for epoch in "01"
        for which, index in [("easiest", "95"), ("easiest", "94"), ("hardest", "0"), ("hardest", "1")]
    ]
    assert [float(row["difficulty"]) for row in rows[:4]] == [-190.0, -188.0, 0.0, -2.0]


def test_the_easiest_and_hardest_samples_are_written_with_label_and_text(here):
    known = {"class_path": "mebert.curriculum.KnownDifficulty"}
    _, rows = fit(here, "--curriculum.samples", "3", "--trainer.max_epochs", "1", difficulty=known)
    assert [row["which"] for row in rows] == ["easiest"] * 3 + ["hardest"] * 3
    assert [float(row["difficulty"]) for row in rows] == [1, 1, 1, 4, 4, 4]
    for row in rows:
        assert row["label"] in {"entailment", "neutral", "contradiction"}
        assert len(row["premise"]) > len(row["hypothesis"]) > 5
    facts = [len(row["premise"].split()) for row in rows]
    assert max(facts[:3]) < min(facts[3:]), "more facts are harder"


@pytest.mark.slow
def test_scores_of_the_model_appear_with_the_epoch_that_they_order(here):
    loss = {"class_path": "mebert.curriculum.Loss"}
    logged, (easiest, hardest) = fit(here, "--curriculum.samples", "1", difficulty=loss)
    assert logged["curriculum/share"] == [1.0, 1.0]
    assert len(logged["curriculum/difficulty_p50"]) == 1, "nothing is known in the first epoch"
    assert easiest["epoch"] == hardest["epoch"] == "1"
    low, high = (float(row["difficulty"]) for row in (easiest, hardest))
    assert low < logged["curriculum/difficulty_p10"][0] < logged["curriculum/difficulty_p90"][0] < high
