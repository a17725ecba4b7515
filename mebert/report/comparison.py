"""All policies that fit a model, compared on one recorded pass, with parameters fitted on the validation pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mebert.calibration.costs import PolicyCosts
from mebert.errors import UserError
from mebert.metrics.at_speed import bracket_speedup
from mebert.metrics.curve import ExitRecord
from mebert.metrics.task import score_to_choose
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import (
    FPABEE,
    DistanceRatio,
    Entropy,
    ExitPolicy,
    HybridDistanceEntropy,
    LearnedToExit,
    Margin,
    MaxProbability,
    Patience,
    PatientEntropy,
    Stacked,
    TemperatureScaled,
    ValueChange,
    Voting,
)
from mebert.report.evaluation import PolicyResult, curve_of

LAMBDAS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # of EDR, chosen on validation data
PATIENCES = (1, 2, 3)  # t of PCEE and F-PABEE, chosen on validation data
NUM_POINTS = 60


def family(model: MultiExitModel) -> dict[str, ExitPolicy]:
    """Every policy with a threshold that fits the model, by name and bound to it."""
    if model.num_labels == 1:
        policies: list[ExitPolicy] = [ValueChange()]
    else:
        policies = [
            Entropy(),
            MaxProbability(),
            Margin(),
            Patience(),
            PatientEntropy(patience_grid=PATIENCES),
            FPABEE(patience_grid=PATIENCES),
            Voting(),
            TemperatureScaled(),
            *([] if model.multi_label else [Stacked()]),
        ]
    if model.prototypes is not None:
        policies += [DistanceRatio(), HybridDistanceEntropy(lam_grid=LAMBDAS)]
    if model.exit_scorer is not None:
        policies.append(LearnedToExit())
    return {policy.name: policy.bind(model) for policy in policies}


def compare_policies(
    model: MultiExitModel,
    record: ExitRecord,
    metric: str,
    targets: Sequence[float],
    own: ExitPolicy,
    validation: ExitRecord | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, PolicyResult]:
    """Fit each policy on the validation pass and compute its curve on the other; its scores are added to `record`.

    Without a validation pass nothing is fitted; the module's `own` policy never is. `names` None takes all policies
    that fit the model and whose features were recorded. `targets` are speed-ups by layers at which the metric is
    reported.
    """
    policies = family(model)
    if own.name in record.scores:  # a fixed exit has no scores, and no curve
        policies[own.name] = own
    unknown = [name for name in names or () if name not in policies]
    if unknown:
        raise UserError(
            f"curve.policies: {', '.join(unknown)} cannot be compared on this model; choose of {', '.join(policies)}"
        )
    costs = PolicyCosts(model, record, metric)
    # A copy: a chosen pass is part of the checkpoint and stays as it is.
    chosen_on = (
        None
        if validation is None
        else replace(validation, scores=dict(validation.scores), answers=dict(validation.answers))
    )
    found = {}
    for name in policies if names is None else names:
        policy = policies[name]
        if policy is not own:
            try:
                policy = policy if chosen_on is None else policy.fitted(chosen_on).bind(model)
                for one in (record, chosen_on):
                    if one is not None:
                        policy.set_scores(one)
            except UserError:  # it reads features, and what it makes of them was not recorded
                if names is not None:
                    raise
                continue
        val_area = None
        if chosen_on is not None and name in chosen_on.scores:
            on_validation = PolicyCosts(model, chosen_on, metric)
            val_area = on_validation.area(curve_of(on_validation, policy, NUM_POINTS))
        curve = curve_of(costs, policy, NUM_POINTS)
        at = {target: _metric_at(costs, policy, target) for target in targets}
        found[name] = PolicyResult(policy, curve, costs.area(curve), val_area, at)
    return found


def best_policy(results: Mapping[str, PolicyResult]) -> str | None:
    """The first policy with the largest area on validation data; None without such data."""
    areas = {name: score_to_choose(result.val_area) for name, result in results.items()}
    best = max(areas, key=areas.__getitem__, default=None)
    return None if best is None or math.isinf(areas[best]) else best


def _metric_at(costs: PolicyCosts, policy: ExitPolicy, target: float) -> float | None:
    """The metric at a speed-up by layers; between two thresholds, where many scores are equal, it is interpolated."""
    record = costs.record.answered_by(policy.name)
    found = bracket_speedup(record.scores[policy.name], costs.model.exit_layers, target)
    if found is None:
        return None
    faster, slower, share = found
    fast, slow = (costs.metric_fn(record.logits_at(exits), record.labels) for exits in (faster, slower))
    return fast + share * (slow - fast)
