"""What a policy chooses besides its threshold (temperatures, weights, lambda, t), from the rows that calibrate it."""

from __future__ import annotations

from dataclasses import replace

import torch

from mebert.metrics.curve import ExitRecord
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy

__all__ = ["fitted_apart"]

FITTING_SHARE = 1 / 3
"""Share of the rows that a policy is fitted to where the others must know nothing of it."""


def fitted_apart(
    policy: ExitPolicy, model: MultiExitModel, record: ExitRecord, promises: bool
) -> tuple[ExitPolicy, ExitRecord]:
    """The fitted policy, and the rows that are left to choose its threshold on, with its scores.

    A promise needs rows that chose nothing: then a random third of the rows fits the policy, the others calibrate it.
    Otherwise all rows do both. A policy with nothing to fit keeps all rows in either case.

    Args:
        policy: Bound to `model`; `record` has its scores.
        model: Whose exits were recorded.
        record: The pass.
        promises: Whether a guarantee is asked for.
    """
    if not promises:
        fitting = rest = record
    else:
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(record.labels), generator=generator)
        cut = max(1, round(FITTING_SHARE * len(order)))
        fitting, rest = record.take(order[:cut].sort().values), record.take(order[cut:].sort().values)
    fitted = policy.fitted(fitting)
    if fitted is policy:
        return policy, record
    fitted = fitted.bind(model)
    return fitted, replace(rest, scores={**rest.scores, fitted.name: fitted.score_record(rest)})
