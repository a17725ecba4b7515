"""Recipes and policies in several precisions beside float32, as Lightning and the engines run them."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch.plugins.precision import HalfPrecision, MixedPrecision
from modules.recipes import labelled, make

import mebert
from mebert.models import model_inputs


def under(precision: str, module: Any) -> tuple[Any, AbstractContextManager[Any]]:
    """A copy of the module as `trainer.precision` makes it, and the context of its step on a CPU."""
    module = copy.deepcopy(module)
    if precision == "32-true":
        return module, nullcontext()
    if precision.endswith("-mixed"):
        return module, MixedPrecision(precision, "cpu", scaler=None).forward_context()  # type: ignore[arg-type]
    plugin = HalfPrecision(precision)  # type: ignore[arg-type]
    return plugin.convert_module(module), plugin.forward_context()


def step(name: str, precision: str) -> tuple[torch.Tensor, dict[str, float], dict[str, torch.Tensor]]:
    """Logits (E, B, C), the parts of the loss, and the gradients of one training step, in float32."""
    module, context = under(precision, make(getattr(mebert, name), spread=0.1))
    batch = labelled(16)
    with context:
        outputs = module(**model_inputs(batch))
        parts = module.compute_loss(outputs, batch)
    parts["loss"].backward()
    gradients = {name: p.grad.float() for name, p in module.named_parameters() if p.grad is not None}
    return outputs.logits.detach().float(), {k: float(v.detach()) for k, v in parts.items()}, gradients


def counted_rows(rows: int, seed: int) -> dict[str, torch.Tensor]:
    """Texts whose label is the group of tokens that occurs most often in them; near draws are hard."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 50, (rows, 12), generator=generator)
    counts = torch.stack([((ids - 5) % 3 == group).sum(1) for group in range(3)], 1)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": counts.argmax(1)}
    return {**batch, "index": torch.arange(rows)}


def trained(steps: int = 150) -> mebert.MultiExitModel:
    """A tiny model with prototypes and a learning-to-exit head, trained until its exits are right most of the time."""
    module = make(mebert.ProtoExitModule, spread=0.1)
    module.model.exit_scorer = torch.nn.Linear(32, 1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for number in range(steps):
        batch = counted_rows(64, seed=number)
        loss = module.compute_loss(module(**model_inputs(batch)), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module.model.eval().requires_grad_(False)
