"""`python -m mebert inspect`: what does each exit predict for this text, and why does it leave where it does?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mebert.choices import PrecisionName
from mebert.errors import UserError
from mebert.storage.thresholds import check_threshold

InspectFormat = Literal["text", "json", "html", "png"]

ENDINGS: dict[str, InspectFormat] = {".html": "html", ".png": "png", ".pdf": "png", ".svg": "png", ".json": "json"}


@dataclass
class InspectSettings:
    """Look inside one model: a text exit by exit, its tokens, and what each exit sees.

    Each text gets a table: prediction and confidence of every exit, the policy's score beside its threshold, where the
    text leaves, what it has cost by then. A model with an exit predictor (`fit --exit_prediction.kind token`) also
    shows the predicted layer of every token. The page and the picture show every exit's prototypes (class means where
    there are none), rows of the run's data and the texts in two dimensions.

    Args:
        model: A checkpoint, a run, or its folder `model`. May be given without the name: inspect runs/a/version_0.
        text: One or several texts.
        pair: Two texts that belong together; may be given several times.
        policy: Name of the policy; null for the model's own. Another one needs a threshold.
        threshold: Threshold of the policy, in [0, 1], instead of the stored one; a list has one for each exit but the
            last.
        speedup: Use the threshold that is stored for this speed-up by layers.
        max_drop: Use the threshold that `calibrate` stored for this largest drop of the metric.
        task: Named task whose rows are shown beside the texts; without task and file: the data of the run.
        file: File of labelled rows to show: .csv, .tsv, .jsonl or .parquet.
        split: Split of the task or the run: train, val, test, or such as val_mismatched.
        text_column: Column of the (first) text in `file`; null for that of the training, else found.
        text_pair_column: Column of the second text of a pair in `file`; null for that of the training, else found.
        label_column: Column of the label in `file`; null for that of the training, else found.
        samples: Most rows to show, drawn with a fixed seed; 0 shows none.
        precision: float32, bfloat16 or int8; null for the default of EarlyExitClassifier on this machine.
        device: auto, cpu, cuda, cuda:1, mps.
        format: text, json, html or png; null for the ending of `out`, else text.
        out: File to write instead of standard output: .html (all of it, one file, no network), .png (the exits in two
            dimensions; also .pdf, .svg) or .json.
    """

    model: str | None = None
    text: list[str] = field(default_factory=list)
    pair: list[str] = field(default_factory=list)
    policy: str | None = None
    threshold: float | list[float] | None = None
    speedup: float | None = None
    max_drop: float | None = None
    task: str | None = None
    file: str | None = None
    split: str = "val"
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    samples: int = 500
    precision: PrecisionName | None = None
    device: str = "auto"
    format: InspectFormat | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.model is None:
            raise UserError("model is missing: give a checkpoint, a run, or its folder model")
        if len(self.pair) % 2:
            raise UserError(f"pair takes two texts at a time, got {len(self.pair)}; quote each of them")
        if self.task is not None and self.file is not None:
            raise UserError("task and file were both given; give one of them")
        if self.samples < 0:
            raise UserError(f"samples must be at least 0, got {self.samples}")
        check_threshold("threshold", self.threshold)
        for number, text in enumerate(self.texts, 1):
            if not "".join(text).strip():
                raise UserError(f"text {number} is empty: give a text with at least one word")
        if self.out is None:
            if self.format in ("html", "png"):
                raise UserError(f"format {self.format} is written to a file: give --out report.{self.format}")
        elif self.out.suffix.lower() not in ENDINGS:
            raise UserError(f"out {self.out} must end in {', '.join(ENDINGS)}")
        elif self.format not in (None, ENDINGS[self.out.suffix.lower()]):
            raise UserError(f"format {self.format} does not fit out {self.out}; leave one of them out")

    @property
    def texts(self) -> list[str | tuple[str, str]]:
        """The texts, then the pairs."""
        return [*self.text, *zip(self.pair[::2], self.pair[1::2], strict=True)]

    @property
    def own_rows(self) -> bool:
        """Whether other rows than the run's are shown beside the texts."""
        return self.task is not None or self.file is not None

    @property
    def wanted(self) -> InspectFormat:
        """The output format, by `format` or the ending of `out`."""
        return self.format or ("text" if self.out is None else ENDINGS[self.out.suffix.lower()])


inspect = InspectSettings
