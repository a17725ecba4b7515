"""`python -m mebert test RUN FILE`: how good a model is on labelled texts, at every exit and as it is used."""

from __future__ import annotations

from dataclasses import dataclass

from mebert.choices import PrecisionName
from mebert.errors import UserError, check_range
from mebert.storage.thresholds import check_threshold


@dataclass
class TestSettings:
    """Score a trained model on a file of labelled texts: the metrics at every exit, and at an operating point.

    Nothing is written. Without a file, `test RUN` evaluates the run's best checkpoint on its own test split, with all
    reports: then the options are those of `test --config RUN/config.yaml --ckpt_path best`.

    Args:
        model: A run, a model folder or a Hub id.
        file: File of labelled texts: .csv, .tsv, .jsonl or .parquet.
        text_column: Column of the (first) text; null for that of the training, else found.
        text_pair_column: Column of the second text of a pair; null for that of the training, else found.
        label_column: Column of the label; null for that of the training, else found.
        speedup: Leave at the threshold that is stored for this speed-up by layers; 1 is the full depth.
        max_drop: Leave at the threshold that `calibrate` stored for this largest drop of the metric.
        threshold: Leave at this threshold, in [0, 1]; a list has one for each exit but the last.
        policy: Name of the policy; null for the model's own. Another one needs a threshold or a speed-up.
        max_length: Longest text in tokens, longer ones are cut; null: as in training.
        batch_size: Rows of a batch.
        precision: float32, bfloat16 or int8; null for the default of EarlyExitClassifier on this machine.
        device: auto, cpu, cuda, cuda:1, mps.
    """

    __test__ = False  # no test of pytest's

    model: str | None = None
    file: str | None = None
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    speedup: float | None = None
    max_drop: float | None = None
    threshold: float | list[float] | None = None
    policy: str | None = None
    max_length: int | None = None
    batch_size: int = 64
    precision: PrecisionName | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.model is None or self.file is None:
            raise UserError(
                f"{'model' if self.model is None else 'file'} is missing: give both, such as test "
                f"{self.model or 'RUN'} labelled.csv (a run alone is tested on its own data: test RUN)"
            )
        check_threshold("threshold", self.threshold)
        check_range("speedup", self.speedup, 1.0)
        check_range("batch_size", self.batch_size, 1, 2**31 - 1)


test = TestSettings
