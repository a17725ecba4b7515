"""The policies to measure, by name; on a model with random exits, with random prototypes, heads and fitted values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord
from mebert.models import MultiExitModel, PrototypeBank
from mebert.policies import (
    Entropy,
    ExitPolicy,
    FixedExit,
    LearnedToExit,
    Stacked,
    TemperatureScaled,
    ValueChange,
    policy_by_name,
)

PROTOTYPE_DIM = 128
FITTING_ROWS = 64
FITTED_POLICIES = (Stacked, TemperatureScaled)


def trained_policies(names: Sequence[str] | None, model: MultiExitModel, own: ExitPolicy | None) -> list[ExitPolicy]:
    """The policies with these names for a trained model, bound to it; `own`, saved with it, keeps its settings."""
    if names is None and own is not None:
        if not isinstance(own, FixedExit):
            return [own]
        names = [own.name]  # is refused
    found = []
    for policy in _by_names(names, model):
        if own is not None and own.name == policy.name:
            found.append(own)
            continue
        if isinstance(policy, FITTED_POLICIES):
            saved = "no policy" if own is None else repr(own.name)
            raise UserError(
                f"the policy {policy.name!r} is fitted to validation data, and this model was saved with {saved}; "
                f"train one with --model.policy mebert.{type(policy).__name__}, or choose another policy"
            )
        found.append(policy.bind(model))
    return found


def fresh_policies(names: Sequence[str] | None, model: MultiExitModel) -> list[ExitPolicy]:
    """The policies with these names for a model with random exits: prototypes, heads and fitted values are random."""
    policies = _by_names(names, model)
    if model.prototypes is None and any(policy.needs_prototypes for policy in policies):
        features = model.exit(0).feature_size
        model.prototypes = PrototypeBank(model.num_exits - 1, features, model.num_labels, dim=PROTOTYPE_DIM)
        model.prototypes.prototypes.normal_()
        model.prototypes.seen.fill_(True)
    if model.exit_scorer is None and any(isinstance(policy, LearnedToExit) for policy in policies):
        model.exit_scorer = nn.Linear(model.feature_size, 1)
    return [_as_if_fitted(policy, model).bind(model) for policy in policies]


def _by_names(names: Sequence[str] | None, model: MultiExitModel) -> list[ExitPolicy]:
    if names is None:
        names = [ValueChange.name if model.num_labels == 1 else Entropy.name]
    if not names or len(set(names)) < len(names):
        raise UserError(f"policies must be one or more different ones, got {list(names)}")
    if FixedExit.name in names:
        raise UserError(
            f"the policy {FixedExit.name!r} has no speed to choose; name others by --policies "
            "(the baseline first_layers is a fixed exit)"
        )
    return [policy_by_name(name)() for name in names]


def _as_if_fitted(policy: ExitPolicy, model: MultiExitModel) -> ExitPolicy:
    """Policies that must be fitted are fitted to random values, so that they cost what fitted ones do."""
    if not isinstance(policy, FITTED_POLICIES):
        return policy
    exits, classes = model.num_exits, model.num_labels
    rows, several = torch.arange(FITTING_ROWS), model.multi_label
    random_record = ExitRecord(
        logits=torch.randn(exits, FITTING_ROWS, *model.logits_shape),
        labels=torch.randint(2, (FITTING_ROWS, classes)) if several else rows % classes,
        index=rows,
        lengths=10 + rows % 7,
        scores={"dr": torch.rand(exits, FITTING_ROWS)},
    )
    return policy.bind(model).fitted(random_record)
