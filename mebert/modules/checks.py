"""Checks of a module's settings, and of the data against its encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from mebert.choices import ProblemType
from mebert.data.text_warnings import warn_of_kind
from mebert.data.tokenizers import check_vocabulary
from mebert.errors import UserError
from mebert.models.multi_exit import MultiExitModel
from mebert.runtime.messages import rank_zero_warn

# Strategies that leave a process only a part of the weights, or of their gradients.
SHARDING = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")


def first_class_weights(
    setting: list[float] | Literal["balanced"] | None, num_labels: int, problem_type: ProblemType | None = None
) -> Tensor | None:
    """The module's `class_weights` (C,) as far as they are known before there is data: ones for `balanced`."""
    if setting is None:
        return None
    if num_labels == 1:
        raise UserError(f"class_weights ({setting}) is for classes; a regression (num_labels 1) has none")
    if problem_type == "multi_label_classification":
        raise UserError(
            f"class_weights ({setting}) weighs rows by their one class, and here a row may have several; leave it out"
        )
    if setting == "balanced":
        return torch.ones(num_labels)
    if len(setting) != num_labels or not all(0 < weight < float("inf") for weight in setting):
        raise UserError(
            f"class_weights must hold {num_labels} numbers above 0, one a class, or be balanced; got {setting}"
        )
    return torch.tensor(setting)


def train_labels(datamodule: Any) -> Tensor:
    """The labels of all training rows, (N,) int64; a UserError where the data module does not hold them."""
    labels = getattr(getattr(datamodule, "splits", {}).get("train"), "labels", None)
    if labels is None:
        raise UserError(
            "class_weights balanced needs a data module of mebert (splits['train'].labels); give the weights as numbers"
        )
    return torch.as_tensor(labels)


def refuse_exit_weights(recipe: str, settings: Mapping[str, Any]) -> None:
    """Raise a UserError where a recipe whose loss has no weights was given some."""
    if settings.get("exit_weights", "uniform") != "uniform":
        raise UserError(
            f"exit_weights ({settings['exit_weights']}) has no place in {recipe}'s loss; leave it out, or take "
            "MultiExitModule"
        )


def refuse_several_labels(what: str, problem_type: ProblemType | None, instead: str) -> None:
    """Raise a UserError where a recipe needs the one class of a row, and rows may have several labels."""
    if problem_type == "multi_label_classification":
        raise UserError(f"{what} needs the one class of a row, and here a row may have several labels; take {instead}")


def check_unlabelled(module: Any, datamodule: Any) -> None:
    """Raise a UserError where a recipe that only learns from labels was given rows without."""
    path = getattr(datamodule, "unlabelled_file", None)
    if path is not None and not module.learns_without_labels:
        raise UserError(
            f"data.unlabelled_file ({path}) has no place in {type(module).__name__} as it is set, which learns from "
            "labels alone; leave it out, or take FastBERTModule, or CurriculumDistillModule with a distillation"
        )


def check_strategy(strategy: object) -> None:
    """Raise a UserError for a Trainer's strategy under which no process has the whole model.

    Fitted prototypes, thresholds, engines and exit predictors run copies of it, or parts, on their own; RomeBERT reads
    whole gradients. An encoder of this kind fits on one device, so that there is nothing to gain.
    """
    names = {kind.__name__ for kind in type(strategy).__mro__}
    if found := names.intersection(SHARDING):
        raise UserError(
            f"trainer.strategy {found.pop()} spreads the weights over processes, and exits are evaluated and run on "
            "whole ones; take ddp (--trainer configs/trainer/ddp.yaml)"
        )


def check_texts(trained: Mapping[str, Any] | None, datamodule: Any) -> None:
    """Compare how texts become tokens with how they did in training (None: not known); a warning for what differs.

    Raises:
        UserError: The vocabulary is another one, so that token ids mean other words.
    """
    own = getattr(datamodule, "text_settings", None)
    if trained is None or own is None:
        return
    if own["vocabulary"] != trained["vocabulary"]:
        raise UserError(
            f"the tokenizer {datamodule.tokenizer_name!r} has another vocabulary than the one that the model was "
            "trained with; give that by data.tokenizer (a run has it in its folder model)"
        )
    warn_of_kind(trained["num_texts"], own["num_texts"])
    for name in ("max_length", "stride", "do_lower_case", "truncation_side", "split_special_tokens"):
        if own[name] != trained.get(name):
            rank_zero_warn(
                f"{name} is {own[name]}, but the model was trained and its thresholds chosen with {trained.get(name)}; "
                f"leave out data.{name} (or give that of training by data.tokenizer) for the same answers"
            )


def check_fit(model: MultiExitModel, datamodule: Any) -> None:
    """Raise a UserError when texts are longer than the encoder takes, or tokens are not in its vocabulary."""
    longest, limit = getattr(datamodule, "max_length", None), model.adapter.max_length
    if longest is not None and longest > limit:
        raise UserError(f"max_length is {longest}, but the encoder takes at most {limit} tokens; lower data.max_length")
    tokenizer, size = getattr(datamodule, "tokenizer", None), model.adapter.config.vocab_size
    if tokenizer is not None:
        check_vocabulary(tokenizer, size)
