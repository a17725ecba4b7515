"""What a policy chooses besides its threshold (temperatures, weights, lambda, t), from the rows that calibrate it."""

from __future__ import annotations

from dataclasses import replace

import torch

from mebert.metrics.curve import ExitRecord
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy

FITTING_SHARE = 1 / 3
"""Share of the rows that a policy is fitted to where its threshold must be chosen on others."""


def fitting_rows(record: ExitRecord) -> tuple[ExitRecord, ExitRecord]:
    """A random third of the rows to fit to, and the others; the rows of a question stay together."""
    groups = torch.arange(len(record.labels)) if record.queries is None else record.queries
    order = groups.unique()
    order = order[torch.randperm(len(order), generator=torch.Generator().manual_seed(0))]
    fits = torch.isin(groups, order[: max(1, round(FITTING_SHARE * len(order)))])
    return record.select(fits.nonzero().squeeze(-1)), record.select((~fits).nonzero().squeeze(-1))


def fit_policy(
    policy: ExitPolicy,
    model: MultiExitModel,
    record: ExitRecord,
    held_out: bool,
    keep: bool = False,
    per_exit: bool = False,
) -> tuple[ExitPolicy, ExitRecord, ExitRecord]:
    """The fitted policy, the rows that it was fitted to, and the rows to choose its threshold on, with its scores.

    With `held_out` it is fitted to a random third of the rows and the others are returned, because a guarantee needs
    rows that nothing was fitted to; otherwise all rows do both. A policy with nothing to fit (or that is kept as it is)
    keeps all rows, unless there is something else to fit: how the thresholds of the exits stand to each other.
    """
    fitting, rest = fitting_rows(record) if held_out else (record, record)
    fitted = policy if keep else policy.fitted(fitting)
    if fitted is policy:
        return (policy, fitting, rest) if per_exit else (policy, record, record)
    fitted = fitted.bind(model)
    fitting, rest = (replace(rows, scores=dict(rows.scores), answers=dict(rows.answers)) for rows in (fitting, rest))
    for rows in (fitting, rest):
        fitted.set_scores(rows)
    return fitted, fitting, rest
