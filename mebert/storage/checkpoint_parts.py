"""What the parts of a checkpoint must be: those that mebert takes apart, and those of which Lightning does.

Only plain values; whether tensors have the shapes of a model is seen where they are loaded into one. Parts that classes
of the user have stored (of loops, loaders, schedulers) may be anything.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, InstanceOf, NonNegativeInt

from mebert.errors import brief
from mebert.storage.json_values import Finite
from mebert.storage.predictor_spec import PredictorSpec
from mebert.storage.spec_parts import NamedClass, Size, Speedup, Threshold

Tensor = InstanceOf[torch.Tensor]
Tensors = dict[str, Tensor]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Flag = bool | None
COUNTS = ("ready", "started", "processed", "completed")  # Lightning's, of batches and steps


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class _Texts(_Part):
    max_length: Size | None
    stride: Count | None = None
    num_texts: Annotated[int, Field(ge=1, le=2)] | None
    vocabulary: str
    do_lower_case: Flag
    truncation_side: Annotated[str, Field(pattern="^(left|right)$")] | None
    split_special_tokens: Flag


class _Point(_Part):
    chosen_by: str | None
    metric: str | None


class _Predictor(PredictorSpec):
    tensors: Tensors


class _Best(_Part):
    """FastBERT's of stage 1."""

    score: Finite
    weights: Tensors


class _Saved(_Part):
    """What `on_save_checkpoint` of mebert's modules adds."""

    policy: NamedClass
    operating_points: dict[str, dict[Speedup, Threshold]]
    operating_point: _Point | None = None  # 0.1.0 had none, nor those below
    texts: _Texts | None = None
    label_names: list[str] | None = None
    exit_temperatures: list[Annotated[Finite, Field(gt=0)]] = []
    validation_record: Tensors | None = None
    exit_predictors: list[_Predictor] = []
    class_weights: list[Finite] | None = None
    best_of_stage_1: _Best | None = None


class _Group(_Part):
    """Settings of an optimiser for some weights."""

    params: list[NonNegativeInt]
    lr: Annotated[Finite, Field(ge=0)] | Tensor
    initial_lr: Finite = 0.0
    betas: tuple[Finite, Finite] | list[Finite] = (0.0, 0.0)
    eps: Finite = 0.0
    weight_decay: Finite = 0.0
    momentum: Finite = 0.0
    amsgrad: Flag = None
    maximize: Flag = None
    foreach: Flag = None
    capturable: Flag = None
    differentiable: Flag = None
    fused: Flag = None
    decoupled_weight_decay: Flag = None


class _Optimizer(_Part):
    state: dict[Any, dict[str, Any]]
    param_groups: list[_Group]


class _Scheduler(_Part):
    last_epoch: Annotated[int, Field(ge=-1, lt=2**63)] = -1
    count: Count = Field(0, alias="_step_count")
    base_lrs: list[Finite | Tensor] = []
    last_lr: list[Finite | Tensor] = Field([], alias="_last_lr")


class _Place(_Part):
    epoch: Annotated[int, Field(ge=-1, lt=2**63)]
    batches: Count


class _Resume(_Part):
    random: Tensors
    train_loader: _Place | None


def _check_progress(loop: dict[str, Any], key: str = "") -> dict[str, Any]:
    """The counts of a loop, which Lightning keeps in nested mappings."""
    if key.endswith((".total.", ".current.")) and not loop.keys() >= {"ready", "completed"}:
        raise ValueError(f"{key.rstrip('.')} must have the counts ready and completed")
    for name, value in loop.items():
        if name.endswith("progress") or key:
            place = f"{key}{name}"
            if isinstance(value, dict):
                _check_progress(value, f"{place}.")
            elif name == "is_last_batch" and key:
                if not isinstance(value, bool):
                    raise ValueError(f"{place} must be true or false, not {brief(value)}")
            elif name not in COUNTS or type(value) is not int or not 0 <= value < 2**63:
                raise ValueError(f"{place} must be {'a count' if name in COUNTS else 'counts'}, not {brief(value)}")
    return loop


def _check_place(loop: dict[str, Any]) -> dict[str, Any]:
    """Without these Lightning would begin anew, and say nothing."""
    for name in ("epoch_progress", "epoch_loop.batch_progress"):
        if not isinstance(loop.get(name), dict) or not loop[name].keys() >= {"total", "current"}:
            raise ValueError(f"{name} must have total and current")
    return _check_progress(loop)


class _Loops(_Part):
    fit_loop: Annotated[dict[str, Any], AfterValidator(_check_place)]
    __pydantic_extra__: dict[str, Annotated[dict[str, Any], AfterValidator(_check_progress)]]


class CheckpointParts(_Part):
    """A checkpoint of Lightning's that a module of mebert has added its part to."""

    state_dict: Tensors
    mebert: _Saved
    hyper_parameters: dict[str, Any]
    epoch: Count = 0
    global_step: Count = 0
    version: str = Field("2", alias="pytorch-lightning_version", pattern=r"^\d+(\.\w+)*")
    loops: _Loops | None = None
    callbacks: dict[str, dict[str, Any]] = {}
    optimizer_states: list[_Optimizer] = []
    lr_schedulers: list[_Scheduler] = []
    resume: _Resume | None = None


class BestFiles(_Part):
    """The state of a `ModelCheckpoint`."""

    monitor: str | None
    best_k_models: Tensors
    best_model_path: str
    last_model_path: str
    kth_best_model_path: str
    best_model_score: Tensor | None
    current_score: Tensor | None
    kth_value: Tensor
    dirpath: str | None
