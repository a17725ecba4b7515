"""What a policy chooses besides its threshold (temperatures, weights, lambda, t), from the rows that calibrate it."""

from __future__ import annotations

from dataclasses import replace

import torch

from mebert.metrics.curve import ExitRecord
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy

FITTING_SHARE = 1 / 3
"""Share of the rows that a policy is fitted to where its threshold must be chosen on others."""


def fit_policy(
    policy: ExitPolicy, model: MultiExitModel, record: ExitRecord, held_out: bool
) -> tuple[ExitPolicy, ExitRecord]:
    """The fitted policy, and the rows to choose its threshold on, with its scores.

    With `held_out` it is fitted to a random third of the rows and the others are returned, because a guarantee needs
    rows that nothing was fitted to; otherwise all rows do both. A policy with nothing to fit keeps all rows.
    """
    fitting = rest = record
    if held_out:
        order = torch.randperm(len(record.labels), generator=torch.Generator().manual_seed(0))
        cut = max(1, round(FITTING_SHARE * len(order)))
        fitting, rest = record.select(order[:cut].sort().values), record.select(order[cut:].sort().values)
    fitted = policy.fitted(fitting)
    if fitted is policy:
        return policy, record
    fitted = fitted.bind(model)
    return fitted, replace(rest, scores={**rest.scores, fitted.name: fitted.score_record(rest)})
