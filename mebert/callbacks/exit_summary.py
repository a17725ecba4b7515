"""One line before a run: the model, its size and its cost on the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from typing_extensions import override

from mebert.report.model_parts import model_parts, model_title, shortened
from mebert.runtime.messages import rank_zero_info

if TYPE_CHECKING:
    from torch import Tensor

    from mebert.modules import MultiExitModule

LENGTH_WITHOUT_DATA = 128


class ExitSummary(L.Callback):
    """Prints one line of the model, its size and its cost, before `fit`, `validate` and `test`.

    FLOPs are counted as everywhere (`mebert.models.flops`), at the lengths of the texts. Where the data module does not
    tell its lengths, at 128 tokens. The parts of the model are in the run's `report.md`.
    """

    def __init__(self) -> None:
        self._fitted = False

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        self._fitted = True
        self._line(trainer, pl_module, "validation_names", "validation")

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        if trainer.state.fn == "validate":
            self._line(trainer, pl_module, "validation_names", "validation")

    @override
    def on_test_start(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        if not self._fitted:  # `fit` has printed it
            self._line(trainer, pl_module, "test_names", "test")

    def _line(self, trainer: L.Trainer, module: MultiExitModule, names: str, kind: str) -> None:
        lengths, texts = _lengths(trainer, names, kind)
        parts = model_parts(module.model, lengths, module.policy)
        size = f"{shortened(parts.total)} parameters, {parts.plain_gflops:.3g} GFLOPs without exits at the lengths of"
        rank_zero_info(f"{model_title(module)}, {size} {texts}")


def _lengths(trainer: L.Trainer, names: str, kind: str) -> tuple[Tensor, str]:
    """Tokens of the texts of the first split of a kind, (N,), and a description of them."""
    data: Any = getattr(trainer, "datamodule", None)
    splits = getattr(data, "splits", None) or {}
    rows = next((splits[name] for name in getattr(data, names, []) if name in splits), None)
    if rows is None:
        return torch.tensor([LENGTH_WITHOUT_DATA]), f"texts of {LENGTH_WITHOUT_DATA} tokens"
    lengths = torch.from_numpy(rows.lengths).long()
    mean = float(lengths.double().mean())
    return lengths, f"the {len(lengths):,} {kind} texts ({mean:.1f} tokens on average)"
