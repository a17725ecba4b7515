"""The arguments of `export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mebert.errors import UserError, check_range
from mebert.storage.operating_point import check_max_drop
from mebert.storage.paths import check_output


@dataclass
class export:
    """Write a model as a folder that classifies with ONNX Runtime, tokenizers and NumPy alone, without PyTorch.

    The folder has one graph an exit, the tokenizer, `manifest.json` (labels, operating points, checksums) and the
    code, `runner.py`. Before it is there, its answers are compared with PyTorch's on the
    run's validation rows.

    Args:
        model: A run, a model folder or a Hub id.
        out: The new folder; null for `exported` in the run (of a model that is in no run: in its folder), where
            `backend="auto"` finds it.
        precision: float32, or int8: weights of the layers in 8 bits, their inputs quantised as they come.
        max_drop: The largest loss of the task's metric against PyTorch in float32, measured on the run's validation
            rows at the default operating point and at full depth; more is refused.
        single_graph: Write `model.onnx`, too: all graphs in one, for a text at a time, by which any language with ONNX
            Runtime leaves early. It has as many megabytes again, and answers without the folder's other graphs.
        samples: Validation rows on which the export is compared with PyTorch.
    """

    model: str | None = None
    out: str | None = None
    precision: Literal["float32", "int8"] = "float32"
    max_drop: float = 0.01
    single_graph: bool = False
    samples: int = 500

    def __post_init__(self) -> None:
        if self.model is None:
            raise UserError("model is missing: give a run or a model folder, such as export RUN")
        check_max_drop("max_drop", self.max_drop)
        check_range("samples", self.samples, 1, 2**31 - 1)
        if self.out is not None:
            check_output("out", self.out, folder=True)
