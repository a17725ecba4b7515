"""Operating points to measure: thresholds of a trained model, drawn exits of one with random weights.

Shapes: N samples, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mebert.calibration import ExitCosts, threshold_for_cost
from mebert.commands.bench.simulated import KnownExits, SimulatedExits, draw_exits, features_of, flops_speedup
from mebert.data.tokenised import TokenisedSplit
from mebert.exit_predictor import ExitPredictor
from mebert.exit_predictor.fitting import PredictorSettings, fit_from_scores, score_rows
from mebert.inference import Engine, EngineName, make_engine, prepare_policy
from mebert.metrics.curve import replay
from mebert.models import MultiExitModel
from mebert.policies import ExitPolicy
from mebert.storage.thresholds import Threshold

RECORD_BATCH = 64


@dataclass(frozen=True)
class OperatingPoint:
    """A policy at its threshold, which gives a speed-up by FLOPs (`target`), bound to one prepared model.

    `predictor` names the exits for the engine `predicted`; None where that is not measured. `drawn` (N,) are the exits
    of a model with random weights, by row.
    """

    name: str
    target: float
    policy: ExitPolicy
    predictor: ExitPredictor | None = None
    drawn: Tensor | None = None

    def engine(self, name: EngineName, model: MultiExitModel, batch_size: int) -> Callable[[], Engine]:
        """A function that makes a fresh engine for every run."""
        predictors = [] if self.predictor is None else [self.predictor]
        return lambda: make_engine(name, model, self.policy, batch_size=batch_size, predictors=predictors)


def engine_flops(costs: ExitCosts, engine: EngineName, policy: ExitPolicy) -> Tensor:
    """What an engine spends on a sample that leaves at each exit, (E, N)."""
    if engine == "predicted":
        return costs.direct()
    flops = costs.sequential(policy)
    return flops[-1:].expand(len(flops), -1) if engine == "full" else flops  # `full` computes all exits for all samples


def simulated_points(
    prepared: MultiExitModel,
    indicators: Sequence[ExitPolicy],
    rows: TokenisedSplit,
    costs: ExitCosts,
    speedups: Sequence[float],
    seed: int,
) -> list[OperatingPoint]:
    """Drawn exits for a prepared model with random weights; the same draws for every precision."""
    features = features_of(prepared, rows, RECORD_BATCH)
    ids = [rows[i]["input_ids"] for i in range(len(rows))]
    found = []
    for indicator in indicators:
        bound = prepare_policy(indicator, prepared)
        for speedup in speedups:
            exits = draw_exits(costs.sequential(indicator), costs.plain, speedup, seed)
            policy = SimulatedExits().of(bound, exits, features)
            known = KnownExits(ids, exits, features.device)
            found.append(OperatingPoint(indicator.name, speedup, policy, known, exits))
    return found


def trained_points(
    model: MultiExitModel,
    policies: Sequence[ExitPolicy],
    rows: TokenisedSplit,
    costs: ExitCosts,
    speedups: Sequence[float],
    predict: bool,
    in_use: Threshold | None = None,
) -> tuple[list[OperatingPoint], list[str]]:
    """Thresholds that meet the speed-ups on these very rows (no labels are needed), and a line for each out of reach.

    Before them, the first policy at the threshold `in_use`, with the speed-up that it gives on these rows.
    With `predict`, each gets a predictor fitted to the same rows. It is more accurate on them than on others, which
    does not affect its speed: that is matched to the policy's, and accuracy is not measured here.
    """
    found, notes = [], []
    for policy in policies:
        scored, spent = score_rows(model, policy, rows, "token", RECORD_BATCH), costs.sequential(policy)
        chosen_at: dict[float, Threshold] = {}  # speed-up to threshold
        if in_use is not None and policy is policies[0]:
            chosen_at[round(flops_speedup(replay(scored.scores, in_use), spent, costs.plain), 2)] = in_use
        for speedup in speedups:
            budget = float(costs.plain.mean()) / speedup
            threshold = threshold_for_cost(scored.scores, spent, budget) if speedup > 1.0 else 0.0
            if threshold is None:
                notes.append(f"{policy.name} does not reach {speedup:g}x by FLOPs on these texts: left out")
            else:
                chosen_at.setdefault(speedup, threshold)
        for speedup, limit in chosen_at.items():
            chosen = policy.with_threshold(limit)
            predictor = None
            if predict:
                predictor = fit_from_scores(model, scored, chosen, PredictorSettings(), speedup, "bench", fresh=scored)
            found.append(OperatingPoint(policy.name, speedup, chosen, predictor))
    return found, notes
