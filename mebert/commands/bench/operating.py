"""How fast each policy shall be: thresholds of a trained model, drawn exits of one with random weights.

Shapes: N samples, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mebert.commands.bench.arithmetic import Costs, threshold_for_flops
from mebert.commands.bench.simulated import KnownExits, SimulatedExits, draw_exits, features_of
from mebert.commands.bench.texts import make_batches
from mebert.data.tokenised import TokenisedSplit
from mebert.exit_predictor import ExitPredictor
from mebert.exit_predictor.fitting import PredictorSettings, fit_from_scores, score_rows
from mebert.inference import EngineName, make_engine, prepare_policy
from mebert.models import MultiExitModel
from mebert.policies import ExitPolicy

if TYPE_CHECKING:
    from mebert.commands.bench.timing import Runs

__all__ = ["OperatingPoint", "rebound", "simulated_points", "trained_points"]

RECORD_BATCH = 64


@dataclass
class OperatingPoint:
    """A policy at a speed-up, for one prepared model.

    Attributes:
        policy: Its name.
        target: Wanted speed-up by FLOPs.
        live: The policy at its threshold, bound to the prepared model.
        predictor: Names the exits for the engine `predicted`.
    """

    policy: str
    target: float
    live: ExitPolicy
    predictor: ExitPredictor | None = None

    def engine(self, name: EngineName, model: MultiExitModel, batch_size: int) -> Callable[[], Runs]:
        """Makes a fresh engine for every run."""
        predictors = [] if self.predictor is None else [self.predictor]
        return lambda: make_engine(name, model, self.live, batch_size=batch_size, predictors=predictors)


def simulated_points(
    prepared: MultiExitModel,
    indicators: Sequence[ExitPolicy],
    rows: TokenisedSplit,
    costs: Costs,
    speedups: Sequence[float],
    seed: int,
) -> list[OperatingPoint]:
    """Drawn exits for a prepared model with random weights; the same draws for every precision.

    Args:
        prepared: The model as it will run.
        indicators: Policies bound to the original, whose scores are computed and not heeded.
        rows: The samples.
        costs: Their counted costs.
        speedups: Wanted speed-ups by FLOPs.
        seed: Determines the draws.

    Raises:
        UserError: A speed-up is out of reach.
    """
    device = next(prepared.parameters()).device
    pad = int(getattr(prepared.adapter.config, "pad_token_id", 0) or 0)
    features = features_of(prepared, make_batches(rows, RECORD_BATCH, pad, device, sort=True))
    ids = [rows[i]["input_ids"] for i in range(len(rows))]
    found = []
    for indicator in indicators:
        bound = prepare_policy(indicator, prepared)
        for speedup in speedups:
            exits = draw_exits(costs.tried(indicator), costs.plain, speedup, seed)
            live = SimulatedExits().of(bound, exits, features)
            found.append(OperatingPoint(indicator.name, speedup, live, KnownExits(ids, exits, device)))
    return found


def trained_points(
    model: MultiExitModel,
    policies: Sequence[ExitPolicy],
    rows: TokenisedSplit,
    costs: Costs,
    speedups: Sequence[float],
    predict: bool,
) -> tuple[list[OperatingPoint], list[str]]:
    """Thresholds that meet the speed-ups on these very rows (no labels are needed), and predictors learnt from them.

    A predictor that is measured on the rows that it has learnt from is better than it would be on others; that
    matters for accuracy, which is not measured here, and not for speed, which is matched to the policy's.

    Args:
        model: In float32.
        policies: Bound to it.
        rows: The samples.
        costs: Their counted costs.
        speedups: Wanted speed-ups by FLOPs.
        predict: Make predictors, too.

    Returns:
        The points, bound to `model`, and a line for each that is out of reach and left out.
    """
    found, notes = [], []
    for policy in policies:
        scored = score_rows(model, policy, rows, "token", RECORD_BATCH)
        flops = costs.tried(policy)
        for speedup in speedups:
            threshold = threshold_for_flops(scored.scores, flops, costs.plain, speedup)
            if threshold is None:
                notes.append(f"{policy.name} does not reach {speedup:g}x by FLOPs on these texts: left out")
                continue
            live = policy.with_threshold(threshold)
            predictor = None
            if predict:
                settings = PredictorSettings()
                predictor = fit_from_scores(model, scored, live, settings, speedup, "bench", fresh=scored)
                predictor = predictor.to(next(model.parameters()).device)
            found.append(OperatingPoint(policy.name, speedup, live, predictor))
    return found, notes


def rebound(points: Sequence[OperatingPoint], prepared: MultiExitModel) -> list[OperatingPoint]:
    """The same points for another prepared copy of their model."""
    return [OperatingPoint(p.policy, p.target, prepare_policy(p.live, prepared), p.predictor) for p in points]
