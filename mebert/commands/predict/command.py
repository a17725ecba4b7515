"""`python -m mebert predict RUN [FILE]`: answers for a file, standard input, texts or the run's own test rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mebert.choices import EngineName, PrecisionName
from mebert.errors import UserError, check_range
from mebert.storage.thresholds import check_threshold

TableFormat = Literal["csv", "tsv", "jsonl", "parquet"]


@dataclass
class PredictSettings:
    """Classify the texts of a file, of standard input or of the command line with a trained model.

    A run alone answers its own test rows (where they are not there, its validation rows), with the metric.

    The answers go to standard output, or to `out`; nothing else is written. The input is read once, in one pass and in
    bounded memory. No configuration is needed: labels, longest text, policy and threshold are the model's.

    Args:
        model: A run, a model folder or a Hub id.
        file: File of texts: .csv, .tsv, .jsonl or .parquet, or .txt (one a line); - for lines of standard input; null
            for the run's own test rows.
        text: One or several texts, instead of a file.
        pair: Two texts that belong together; may be given several times.
        text_column: Column of the (first) text in `file`; null for that of the training, else `text`.
        text_pair_column: Column of the second text of a pair in `file`; null for that of the training.
        label_column: Column of the label in `file`, for the metric; null for that of the training, where it is there.
        id_columns: Columns of `file` to carry into the answer.
        out: File for the answers: .csv, .tsv, .jsonl or .parquet; null for standard output.
        format: csv, tsv, jsonl or parquet; null for what `out` ends in, else csv (texts of the command line: in words).
        speedup: Leave at the threshold that is stored for this speed-up by layers; 1 is the full depth.
        max_drop: Leave at the threshold that `calibrate` stored for this largest drop of the metric.
        threshold: Leave at this threshold, in [0, 1]; a list has one for each exit but the last.
        policy: Name of the policy; null for the model's own. Another one needs a threshold or a speed-up.
        engine: full, shrink, refill or predicted; null for shrink.
        batch_size: Most texts of a batch; null: 128, on ONNX Runtime 32.
        max_length: Longest text in tokens, longer ones are cut; null: as in training.
        precision: float32, bfloat16 or int8; null for the default of EarlyExitClassifier on this machine.
        backend: torch, onnx for a folder of `export`, or auto: the faster one where a run has both; null: onnx for such
            a folder, else torch.
        device: auto, cpu, cuda, cuda:1, mps.
    """

    model: str | None = None
    file: str | None = None
    text: list[str] = field(default_factory=list)
    pair: list[str] = field(default_factory=list)
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    id_columns: list[str] = field(default_factory=list)
    out: Path | None = None
    format: TableFormat | None = None
    speedup: float | None = None
    max_drop: float | None = None
    threshold: float | list[float] | None = None
    policy: str | None = None
    engine: EngineName | None = None
    batch_size: int | None = None
    max_length: int | None = None
    precision: PrecisionName | None = None
    backend: Literal["torch", "onnx", "auto"] | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.model is None:
            raise UserError("model is missing: give a run, a model folder or a Hub id, such as predict RUN my.csv")
        given = [name for name in ("file", "text", "pair") if getattr(self, name)]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} were both given; give one of them")
        if len(self.pair) % 2:
            raise UserError(f"pair takes two texts each, got {len(self.pair)}")
        if self.file is None or self.file == "-" or self.file.lower().endswith(".txt"):
            for name in ("text_column", "text_pair_column", "label_column", "id_columns"):
                if getattr(self, name):
                    what = self.file or ("what is answered without a file" if self.own_rows else "a text given here")
                    raise UserError(f"{name} names a column of a file, and {what} has none")
        check_threshold("threshold", self.threshold)
        check_range("speedup", self.speedup, 1.0)
        check_range("batch_size", self.batch_size, 1, 2**31 - 1)
        if self.format == "parquet" and self.out is None:
            raise UserError("format parquet is for a file: give --out answers.parquet")

    @property
    def own_rows(self) -> bool:
        """Whether the run's own rows are answered."""
        return not (self.file or self.text or self.pair)


predict = PredictSettings
