"""A copy of a model for inference: its precision, fused layers, compiled layers."""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mebert.choices import EngineName
from mebert.errors import UserError
from mebert.inference.attention_plan import CACHED_SCORES
from mebert.inference.engine import Engine
from mebert.inference.fused import drop_layers, fused_layers
from mebert.inference.packed import FusedAdapter
from mebert.inference.predicted import PredictedEngine
from mebert.inference.refill import RefillEngine
from mebert.inference.whole_batch import FullEngine, ShrinkEngine
from mebert.models.cascade import CascadeModel
from mebert.models.fastbert_pooling import FastBertPooling
from mebert.models.multi_exit import MultiExitModel
from mebert.runtime.precision import PrecisionName

if TYPE_CHECKING:
    from mebert.policies import ExitPolicy

__all__ = ["PrecisionName", "make_engine", "prepare_model", "prepare_policy"]


def prepare_model(
    model: MultiExitModel,
    precision: PrecisionName = "float32",
    compile: bool = False,
    device: torch.device | str | None = None,
) -> MultiExitModel:
    """A copy of the model for inference, in evaluation mode; the model itself is left as it is.

    The copy cannot be trained or saved: its layers are fused (`mebert.inference.fused`).

    Args:
        model: Any.
        precision: `bfloat16` casts the weights once, where autocast would do so at every call; `int8` quantises the
            weights of the layers, and their inputs as they come (CPU). Logits and policies are float32 in all.
        compile: Compile the layers (`torch.compile`), which takes a minute at the first batches.
        device: Where it shall be; None: where the model is.

    Raises:
        UserError: An unknown precision, int8 away from the CPU, or no compiler.
    """
    place = next(model.parameters()).device if device is None else torch.device(device)
    if precision not in ("float32", "bfloat16", "int8"):
        raise UserError(f"precision must be float32, bfloat16 or int8, got {precision!r}")
    if precision == "int8" and place.type != "cpu":
        raise UserError(f"precision int8 runs on the CPU only, and the device is {place.type}; use bfloat16 there")
    if compile:
        _check_compiler(place)
    if isinstance(model, CascadeModel):
        members = [prepare_model(model.member(index), precision, compile, place) for index in range(model.num_exits)]
        fast: MultiExitModel = CascadeModel(members).eval()
        fast.prototypes, fast.exit_scorer = copy.deepcopy(model.prototypes), copy.deepcopy(model.exit_scorer)
    else:
        fast = copy.deepcopy(model).eval().requires_grad_(False)
    layers = [] if isinstance(fast, CascadeModel) else _fuse(fast, grouped=place.type == "cpu" and not compile)
    fast = fast.to(place, torch.bfloat16 if precision == "bfloat16" else None)
    if fast.prototypes is not None and model.prototypes is not None:
        # Distances are measured in float32, to prototypes that have not been rounded.
        fast.prototypes.prototypes = model.prototypes.prototypes.clone().to(place)
    if fast.exit_scorer is not None and model.exit_scorer is not None:  # nor shall near scores be rounded together
        fast.exit_scorer.to(torch.float32).load_state_dict(model.exit_scorer.state_dict())
    for layer in layers:
        if precision == "int8":
            _quantise(layer)
        if compile:
            layer.compile(dynamic=True)
    return fast


def _fuse(fast: MultiExitModel, grouped: bool) -> list[nn.Module]:
    """Fuse the layers and poolings of a copy; returns its different layers, or its encoder where they are not known.

    Args:
        fast: The copy.
        grouped: Whether rows attend in groups of similar length. A compiled layer is compiled for each number of
            groups; an accelerator wants few kernels.
    """
    for index in range(fast.num_exits):
        head = fast.exit(index)
        if isinstance(head.pooling, FastBertPooling):
            head.pooling = head.pooling.folded()
    layers = fused_layers(fast.encoder)
    if layers is None:
        return [fast.encoder]
    unique = {id(layer): layer for parts in layers for layer in parts}
    fast.fused = nn.ModuleList(unique.values())  # registered, so that `.to` reaches them
    fast.adapter = FusedAdapter(fast.adapter, layers, CACHED_SCORES if grouped else None)
    drop_layers(fast.encoder)
    return list(unique.values())


def make_engine(name: EngineName, model: MultiExitModel, policy: ExitPolicy, **settings: Any) -> Engine:
    """The engine with this name.

    Args:
        name: `full`, `shrink`, `refill` or `predicted`.
        model: In evaluation mode.
        policy: Bound to the model.
        settings: What the engine's class takes besides: `batch_size`, `max_waiting` and `max_wait` for `refill` and
            `predicted`, `predictor` for `predicted`.

    Raises:
        UserError: There is no such engine.
    """
    classes: dict[str, type[Engine]] = {c.name: c for c in (ShrinkEngine, FullEngine, RefillEngine, PredictedEngine)}
    if name not in classes:
        raise UserError(f"engine {name!r} is not known; choose one of: {', '.join(classes)}")
    return classes[name](model, policy, **settings)


def prepare_policy(policy: ExitPolicy, model: MultiExitModel) -> ExitPolicy:
    """The same policy, bound to the prepared copy of its model."""
    return policy.with_threshold(policy.threshold).bind(model)


def _quantise(module: nn.Module) -> None:
    with warnings.catch_warnings():
        # torch announces the move to another package, years ahead; the warning is not for our users.
        warnings.simplefilter("ignore")
        torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8, inplace=True)


def _check_compiler(device: torch.device) -> None:
    wanted = os.environ.get("CXX") or "g++"
    if device.type == "cpu" and not (shutil.which(wanted) or shutil.which("clang++")):
        raise UserError(
            f"compile needs a C++ compiler, and {wanted} was not found; install one (Debian: apt install g++), "
            "name it by the environment variable CXX, or do without compile"
        )
