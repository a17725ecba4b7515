"""What is said of a loss or a gradient that is not finite: where, which part of it, why, and what to type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

__all__ = ["SeenBatch", "advice_for", "describe", "unsound"]

SHOWN_ROWS = 64
SHOWN_NAMES = 3
FAR_ABOVE = 1e-2  # encoders are fine-tuned with 1e-5 to 5e-5, tiny ones from scratch with some 1e-3
OVERFLOWS = ("16-true", "16-mixed", "transformer-engine-float16")


@dataclass
class SeenBatch:
    """What is kept of a batch until its step is over. Tensors stay where they are.

    Attributes:
        rows: Row numbers in the training split, (B,); None where the batch has none.
        labels: (B,), or None.
        loss: Its loss, a scalar.
        parts: The named parts of the loss, scalars.
    """

    rows: Tensor | None = None
    labels: Tensor | None = None
    loss: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    def is_sound(self) -> bool:
        """Whether its loss is finite (waits for an accelerator)."""
        return self.loss is None or math.isfinite(float(self.loss))


def unsound(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those with a value that is not finite (waits for an accelerator)."""
    return [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]


def describe(batches: Sequence[SeenBatch]) -> str:
    """The batches at fault (all, where no loss shows which): their loss, its parts and their rows."""
    guilty = [batch for batch in batches if not batch.is_sound()] or batches
    return "; ".join(_of_batch(batch) for batch in guilty)


def _of_batch(batch: SeenBatch) -> str:
    said = [] if batch.loss is None else [f"loss {float(batch.loss):.4g}"]
    parts = {name: float(value) for name, value in batch.parts.items() if name != "loss"}
    if parts:
        said.append("its parts " + ", ".join(f"{name} {value:.4g}" for name, value in parts.items()))
    if batch.rows is not None:
        rows = [int(row) for row in batch.rows]
        more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
        said.append(f"rows {', '.join(map(str, rows[:SHOWN_ROWS]))}{more} of the training split (from 0)")
        if batch.labels is not None and batch.labels.is_floating_point():
            odd = [row for row, fine in zip(rows, batch.labels.isfinite().tolist(), strict=True) if not fine]
            if odd:
                said.append(f"labels that are not finite in rows {', '.join(map(str, odd[:SHOWN_ROWS]))}")
    return ", ".join(said)


def advice_for(module: nn.Module, first: bool, rates: Sequence[float], precision: str, clipped: bool) -> str:
    """The likely cause, and what to do about it.

    Args:
        module: What is trained, as it was when the loss was computed (or one step later, on an accelerator).
        first: Whether it was the run's first step, before any update.
        rates: Learning rates of the optimiser's groups.
        precision: The Trainer's.
        clipped: Whether gradients are clipped.
    """
    weights = dict(module.named_parameters())
    broken, rate = unsound(weights), max(rates, default=0.0)
    named = f"{len(broken)} of {len(weights)} weight tensors ({', '.join(broken[:SHOWN_NAMES])}, ...)"
    if broken and first:
        return f"{named} were not finite to begin with: start from another encoder or checkpoint"
    slower = f"lower --model.learning_rate (now {rate:.3g})"
    if rate > FAR_ABOVE:
        return f"the learning rate is far above the usual 1e-5 to 5e-5: {slower}"
    if precision in OVERFLOWS:
        return "float16 overflows above 65504: --trainer.precision bf16-mixed or 32-true"
    remedies = [slower, "warm up (--model.warmup_ratio 0.1)"]
    remedies += [] if clipped else ["clip (--trainer.gradient_clip_val 1)"]
    remedies += ["--trainer.precision 32-true"] if precision != "32-true" else []
    made = f"an update made {named} not finite; " if broken else ""
    return f"{made}{', '.join(remedies)}; and look at the texts and labels of these rows"
