"""Training stops where its loss or gradient is no number any more, and says at which step, on which rows, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from typing_extensions import override

from mebert.errors import UserError
from mebert.runtime.distributed import world_size

__all__ = ["FiniteLoss", "SeenBatch", "advice_for", "describe", "unsound"]

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


MOST_SKIPPED = 20  # in a row; after as many halvings of its scale, GradScaler will not find one that helps


@dataclass
class _Step:
    """An optimiser step that has not been looked at yet: its number, epoch, batches, rates and tests."""

    number: int
    epoch: int
    first: bool
    batches: list[SeenBatch]
    rates: list[float]
    losses_finite: Tensor
    everywhere: Tensor
    gradient_finite: Tensor | None


class FiniteLoss(L.Callback):
    """Stops training at a loss or a gradient that is NaN or infinite, before the weights are updated with it.

    One test a step: of the batch's losses on all processes, and of the norm of the gradient, which they share; so all
    of them stop at the same step. On a CPU it is looked at at once; on an accelerator at the next step, so that nothing
    waits for it, and before anything is saved: no checkpoint holds what came after. Where fp16's GradScaler skips
    steps, that is its way of finding a scale: only many in a row stop the run.

    Args:
        every_n_steps: Look at every so many optimiser steps; 0 never looks.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        if every_n_steps < 0:
            raise UserError(f"finite_loss.every_n_steps must be at least 0, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._batches: list[SeenBatch] = []
        self._waiting: _Step | None = None
        self._first = True
        self._skipped = 0

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batches, self._waiting, self._first, self._skipped = [], None, True, 0

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        known = batch if isinstance(batch, dict) else {}
        self._batches.append(SeenBatch(known.get("index"), known.get("labels")))

    @override
    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        if self._batches:
            self._batches[-1].loss = loss.detach()
            self._batches[-1].parts = getattr(pl_module, "loss_parts", {})

    @override
    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        batches, self._batches = self._batches, []
        first, self._first = self._first, False
        losses = [batch.loss for batch in batches if batch.loss is not None]
        if not losses or self.every_n_steps == 0 or trainer.global_step % self.every_n_steps:
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        # What the scaler unscaled is infinite wherever its scale was too high.
        tested = bool(gradients) and not _has_scaler(trainer)
        finite = torch.stack(losses).isfinite().all()
        step = _Step(
            number=trainer.global_step,
            epoch=trainer.current_epoch,
            first=first,
            batches=batches,
            rates=[float(group["lr"]) for group in optimizer.param_groups],
            losses_finite=finite,
            everywhere=_everywhere(finite),
            gradient_finite=get_total_norm(gradients).isfinite() if tested else None,
        )
        if pl_module.device.type == "cpu":
            self._look(trainer, pl_module, step)
        else:
            self._look_at_waiting(trainer, pl_module)
            self._waiting = step

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._look_at_waiting(trainer, pl_module)  # a step on an accelerator, before it is kept

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._look_at_waiting(trainer, pl_module)

    def _look_at_waiting(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        step, self._waiting = self._waiting, None
        if step is not None:
            self._look(trainer, module, step)

    def _look(self, trainer: L.Trainer, module: L.LightningModule, step: _Step) -> None:
        gradient_broken = step.gradient_finite is not None and not bool(step.gradient_finite)
        if not gradient_broken and bool(step.everywhere):
            self._skipped = 0
            return
        self._skipped += 1
        if _has_scaler(trainer) and self._skipped < MOST_SKIPPED:
            return
        raise UserError(self._text(trainer, module, step, gradient_broken))

    def _text(self, trainer: L.Trainer, module: L.LightningModule, step: _Step, gradient_broken: bool) -> str:
        about = describe(step.batches)
        if trainer.world_size > 1:
            about = f"process {trainer.global_rank}: {about}"
            # All have stopped here, and can say whose rows they were.
            if isinstance(trainer.strategy, DDPStrategy):
                about = _of_all_processes(about, bool(step.losses_finite))
        what = "gradient" if bool(step.everywhere) else "loss"
        skipped = f", after {self._skipped} skipped steps in a row" if self._skipped > 1 else ""
        clipped = bool(trainer.gradient_clip_val)
        advice = advice_for(module, step.first, step.rates, str(trainer.precision), clipped)
        kept = next((path for c in reversed(trainer.checkpoint_callbacks) if (path := _path(c))), "")
        before = f"; {kept} is from before it: --ckpt_path last goes on there, with the same recipe" if kept else ""
        where = f"global step {step.number} (epoch {step.epoch + 1}){skipped}"
        settings = f"precision {trainer.precision}, learning rate {max(step.rates):.3g}"
        return f"training stopped: the {what} is not finite at {where}: {about}; {settings}. Likely: {advice}{before}"


def _has_scaler(trainer: L.Trainer) -> bool:
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def _path(callback: Any) -> str:
    return str(getattr(callback, "best_model_path", ""))


def _everywhere(finite: Tensor) -> Tensor:
    """Whether it is true on every process; nothing waits for the answer before it is looked at."""
    if world_size() == 1:
        return finite
    all_of_them = finite.float()
    torch.distributed.all_reduce(all_of_them, torch.distributed.ReduceOp.MIN)
    return all_of_them > 0


def _of_all_processes(about: str, is_sound: bool) -> str:
    """What the processes say whose loss was not finite; all of them, where none was."""
    said: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(said, (about, is_sound))
    guilty = [text for text, sound in said if not sound] or [text for text, _ in said]
    return " | ".join(guilty)
