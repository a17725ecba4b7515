"""A copy of a model for inference: its precision, fused layers, compiled layers."""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from mebert.choices import PrecisionName
from mebert.errors import UserError
from mebert.inference.fused_families import fused_layers
from mebert.inference.unpadding import FusedAdapter
from mebert.models.cascade import CascadeModel
from mebert.models.fastbert_pooling import FastBertPooling
from mebert.models.multi_exit import MultiExitModel
from mebert.runtime.torch_state import plain_torch_state

if TYPE_CHECKING:
    from mebert.policies import ExitPolicy


@plain_torch_state()
def prepare_model(
    model: MultiExitModel,
    precision: PrecisionName = "float32",
    compile: bool = False,
    device: torch.device | str | None = None,
) -> MultiExitModel:
    """A copy of a model for inference, in evaluation mode; the model itself is not changed.

    The copy cannot be trained or saved: its layers are fused (`mebert.inference.fused`).

    Args:
        model: The multi-exit model.
        precision: `bfloat16` casts the weights once, where autocast would do so at every call; `int8` quantises the
            weights of the layers, and their inputs dynamically (CPU). Logits and policies are always float32.
        compile: Compile the layers (`torch.compile`), which takes a minute at the first batches.
        device: Device of the copy; None: the model's.

    Raises:
        UserError: An unknown precision, int8 on an accelerator, or no compiler.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    if precision not in ("float32", "bfloat16", "int8"):
        raise UserError(f"precision must be float32, bfloat16 or int8, got {precision!r}")
    if precision == "int8" and device.type != "cpu":
        raise UserError(f"precision int8 runs on the CPU only, and the device is {device.type}; use bfloat16 there")
    compiler = os.environ.get("CXX") or "g++"
    if compile and device.type == "cpu" and not (shutil.which(compiler) or shutil.which("clang++")):
        raise UserError(
            f"compile needs a C++ compiler, and {compiler} was not found; install one (Debian: apt install g++), "
            "name it in the environment variable CXX, or set compile to false"
        )
    if isinstance(model, CascadeModel):
        members = [prepare_model(model.member(index), precision, compile, device) for index in range(model.num_exits)]
        fast: MultiExitModel = CascadeModel(members).eval()
        fast.prototypes, fast.exit_scorer = copy.deepcopy(model.prototypes), copy.deepcopy(model.exit_scorer)
    else:
        fast = copy.deepcopy(model).eval().requires_grad_(False)
    layers = [] if isinstance(fast, CascadeModel) else _fuse(fast, grouped=device.type == "cpu" and not compile)
    fast = fast.to(device, torch.bfloat16 if precision == "bfloat16" else None)
    if fast.prototypes is not None and model.prototypes is not None:
        # Distances are float32, to prototypes that have not been rounded.
        fast.prototypes.prototypes = model.prototypes.prototypes.clone().to(device)
    if fast.exit_scorer is not None and model.exit_scorer is not None:  # float32, so that close scores stay distinct
        fast.exit_scorer.to(torch.float32).load_state_dict(model.exit_scorer.state_dict())
    for layer in layers:
        if precision == "int8":
            with warnings.catch_warnings():
                # torch announces that this will move to another package; nothing that a user can act on.
                warnings.simplefilter("ignore")
                torch.ao.quantization.quantize_dynamic(layer, {nn.Linear}, dtype=torch.qint8, inplace=True)
        if compile:
            layer.compile(dynamic=True)
    return fast


def _fuse(fast: MultiExitModel, grouped: bool) -> list[nn.Module]:
    """Fuse the layers and poolings of a copy; returns its distinct layers, or its encoder if the family is unknown.

    `grouped`: rows attend in groups of similar length and run in blocks. Not with compilation, which would compile for
    each number of groups, nor on an accelerator, which is faster with few kernels.
    """
    for index in range(fast.num_exits):
        head = fast.exit(index)
        if isinstance(head.pooling, FastBertPooling):
            head.pooling = head.pooling.folded()
    layers = fused_layers(fast.adapter)
    if layers is None:
        return [fast.encoder]
    unique = {id(layer): layer for parts in layers for layer in parts}
    fast.fused = nn.ModuleList(unique.values())  # registered, so that `.to` reaches them
    fast.adapter = FusedAdapter(fast.adapter, layers, grouped)
    fast.adapter.base.drop_layers()
    return list(unique.values())


def prepare_policy(policy: ExitPolicy, model: MultiExitModel) -> ExitPolicy:
    """The same policy, bound to the prepared copy of its model."""
    return policy.with_threshold(policy.threshold).bind(model)
