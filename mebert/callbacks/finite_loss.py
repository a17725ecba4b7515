"""Training stops at a non-finite loss or gradient, with the step, the rows, the likely cause and a remedy."""

from __future__ import annotations

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

from mebert.errors import UserError, check_range
from mebert.runtime.distributed import world_size
from mebert.runtime.precision import grad_scaler

SHOWN_ROWS = 64
SHOWN_NAMES = 3
HIGH_LEARNING_RATE = 1e-2  # encoders are fine-tuned with 1e-5 to 5e-5, tiny ones from scratch with about 1e-3
FLOAT16 = ("16-true", "16-mixed", "transformer-engine-float16")
MOST_SKIPPED = 20  # steps in a row; after as many halvings of its scale, GradScaler will not find one that helps


@dataclass
class SeenBatch:
    """A batch of the current optimiser step; its tensors stay on their device."""

    rows: Tensor | None = None  # numbers in the training split, (B,)
    labels: Tensor | None = None  # (B,)
    loss: Tensor | None = None  # a scalar, as are its named parts
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    def describe(self) -> str:
        """Its loss, the parts of it, its rows, and the rows whose label is not finite."""
        found = [] if self.loss is None else [f"loss {float(self.loss):.4g}"]
        parts = [f"{name} {float(value):.4g}" for name, value in self.parts.items() if name != "loss"]
        if parts:
            found.append(f"its parts {', '.join(parts)}")
        if self.rows is not None:
            more = f" and {len(self.rows) - SHOWN_ROWS} more" if len(self.rows) > SHOWN_ROWS else ""
            found.append(f"rows {_numbers(self.rows)}{more} of the training split (from 0)")
            if self.labels is not None and not bool(self.labels.isfinite().all()):
                found.append(f"labels that are not finite in rows {_numbers(self.rows[~self.labels.isfinite()])}")
        return ", ".join(found)


def _numbers(rows: Tensor) -> str:
    return ", ".join(map(str, rows[:SHOWN_ROWS].tolist()))


def describe(batches: Sequence[SeenBatch]) -> str:
    """The batches with a non-finite loss, or all of them where every loss is finite."""
    broken = [batch for batch in batches if batch.loss is not None and not bool(batch.loss.isfinite())]
    return "; ".join(batch.describe() for batch in broken or batches)


def advice_for(module: nn.Module, first: bool, rates: Sequence[float], precision: str, clipped: bool) -> str:
    """The likely cause, and what to do about it.

    The module has the weights of this step (on an accelerator of the next one); in the `first` there was no update yet.
    """
    weights = dict(module.named_parameters())
    broken = [name for name, weight in weights.items() if not bool(weight.isfinite().all())]
    rate = max(rates, default=0.0)
    named = f"{len(broken)} of {len(weights)} weight tensors ({', '.join(broken[:SHOWN_NAMES])}, ...)"
    if broken and first:
        return f"{named} were not finite to begin with: start from another encoder or checkpoint"
    slower = f"lower --model.learning_rate (now {rate:.3g})"
    if rate > HIGH_LEARNING_RATE:
        return f"the learning rate is far above the usual 1e-5 to 5e-5: {slower}"
    if precision in FLOAT16:
        return "float16 overflows above 65504: --trainer.precision bf16-mixed or 32-true"
    remedies = [slower, "warm up (--model.warmup_ratio 0.1)"]
    remedies += [] if clipped else ["clip (--trainer.gradient_clip_val 1)"]
    remedies += ["--trainer.precision 32-true"] if precision != "32-true" else []
    cause = f"an update made {named} not finite; " if broken else ""
    return f"{cause}{', '.join(remedies)}; and look at the texts and labels of these rows"


@dataclass
class _Step:
    """An optimiser step whose tests have not been read yet."""

    number: int
    epoch: int
    first: bool
    batches: list[SeenBatch]
    rates: list[float]
    losses_finite: Tensor  # of this process
    all_losses_finite: Tensor  # of all processes
    gradient_finite: Tensor | None


class FiniteLoss(L.Callback):
    """Stops training at a loss or a gradient that is NaN or infinite, before the weights are updated with it.

    Each step is tested once: the losses of its batches on all processes, and the norm of the gradient, which they
    share; so all processes stop at the same step. On a CPU the result is read at once; on an accelerator at the next
    step, so that nothing waits for it, and before a checkpoint is saved, so that none holds what came after. Steps that
    fp16's GradScaler skips are its way of finding a scale: only many in a row stop the run.

    Args:
        every_n_steps: Test one of so many optimiser steps; 0 tests none.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        check_range("finite_loss.every_n_steps", every_n_steps, 0)
        self.every_n_steps = every_n_steps
        self._batches: list[SeenBatch] = []
        self._waiting: _Step | None = None
        self._first = True
        self._skipped = 0

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batches, self._waiting, self._first, self._skipped = [], None, True, 0

    @override
    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_: Any) -> None:
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
        # With a scaler, unscaled gradients are infinite wherever its scale was too high.
        tested = bool(gradients) and grad_scaler(trainer) is None
        finite = torch.stack(losses).isfinite().all()
        gradient_finite = get_total_norm(gradients).isfinite() if tested else None
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        at = trainer.global_step, trainer.current_epoch
        step = _Step(*at, first, batches, rates, finite, _on_all_processes(finite), gradient_finite)
        if pl_module.device.type != "cpu":
            step, self._waiting = self._waiting, step  # type: ignore[assignment]
        self._check(trainer, pl_module, step)

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.on_train_epoch_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        step, self._waiting = self._waiting, None
        self._check(trainer, pl_module, step)

    def _check(self, trainer: L.Trainer, module: L.LightningModule, step: _Step | None) -> None:
        if step is None:
            return
        gradient_broken = step.gradient_finite is not None and not bool(step.gradient_finite)
        if not gradient_broken and bool(step.all_losses_finite):
            self._skipped = 0
            return
        self._skipped += 1
        if grad_scaler(trainer) is None or self._skipped >= MOST_SKIPPED:
            raise UserError(self._message(trainer, module, step))

    def _message(self, trainer: L.Trainer, module: L.LightningModule, step: _Step) -> str:
        about = describe(step.batches)
        if trainer.world_size > 1:
            about = f"process {trainer.global_rank}: {about}"
            if isinstance(trainer.strategy, DDPStrategy):
                texts: list[Any] = [None] * torch.distributed.get_world_size()
                torch.distributed.all_gather_object(texts, (about, bool(step.losses_finite)))
                # Those of processes with a non-finite loss; of all processes, where every loss is finite.
                about = " | ".join([text for text, finite in texts if not finite] or [text for text, _ in texts])
        what = "gradient" if bool(step.all_losses_finite) else "loss"
        skipped = f", after {self._skipped} skipped steps in a row" if self._skipped > 1 else ""
        advice = advice_for(module, step.first, step.rates, str(trainer.precision), bool(trainer.gradient_clip_val))
        saved = [str(getattr(callback, "best_model_path", "")) for callback in trainer.checkpoint_callbacks]
        kept = next(filter(None, reversed(saved)), None)
        before = f"; {kept} is from before it: --ckpt_path last goes on there, with the same recipe" if kept else ""
        where = f"global step {step.number} (epoch {step.epoch + 1}){skipped}"
        settings = f"precision {trainer.precision}, learning rate {max(step.rates):.3g}"
        return f"training stopped: the {what} is not finite at {where}: {about}; {settings}. Likely: {advice}{before}"


def _on_all_processes(finite: Tensor) -> Tensor:
    """Whether it is true on every process, without waiting for an accelerator."""
    if world_size() == 1:
        return finite
    smallest = finite.float()
    torch.distributed.all_reduce(smallest, torch.distributed.ReduceOp.MIN)
    return smallest > 0
