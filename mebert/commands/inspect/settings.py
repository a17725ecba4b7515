"""The settings of `inspect`, checked; light, so that the command's help needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mebert.choices import PrecisionName
from mebert.errors import UserError

if TYPE_CHECKING:
    from mebert.inference.stream import Text

InspectFormat = Literal["text", "json", "html", "png"]

ENDINGS: dict[str, InspectFormat] = {".html": "html", ".png": "png", ".pdf": "png", ".svg": "png", ".json": "json"}


@dataclass
class InspectSettings:
    """The arguments of `mebert.commands.inspect.command.inspect`."""

    model: str
    texts: Sequence[Text] = ()
    policy: str | None = None
    threshold: float | None = None
    speedup: float | None = None
    max_drop: float | None = None
    task: str | None = None
    file: str | None = None
    split: str = "val"
    text_column: str = "text"
    text_pair_column: str | None = None
    label_column: str = "label"
    samples: int = 500
    precision: PrecisionName | None = None
    device: str = "auto"
    format: InspectFormat | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.task is not None and self.file is not None:
            raise UserError("task and file were both given; give one of them")
        if self.samples < 0:
            raise UserError(f"samples must be at least 0, got {self.samples}")
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise UserError(f"threshold must be in [0, 1], got {self.threshold}")
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
    def own_rows(self) -> bool:
        """Whether other rows than the run's are shown beside the texts."""
        return self.task is not None or self.file is not None

    @property
    def wanted(self) -> InspectFormat:
        """The output format, by `format` or the ending of `out`."""
        return self.format or ("text" if self.out is None else ENDINGS[self.out.suffix.lower()])
