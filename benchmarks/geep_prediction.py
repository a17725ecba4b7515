"""How well exits can be predicted from the tokens: what benchmarks/geep.py records beside the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from mebert.exit_predictor import coverage_for_speedup
from mebert.exit_predictor.coverage import choose_exits
from mebert.exit_predictor.fitting import PredictorSettings, ScoredRows, distribution_of, fit_from_scores, score_rows
from mebert.exit_predictor.report import report
from mebert.metrics.curve import ExitRecord, replay, threshold_for_speedup
from mebert.policies import Entropy

PREDICTORS: dict[str, dict[str, Any]] = {
    "token": {"kind": "token"},
    "token 2-gram": {"kind": "token", "ngram": 2},
    "linear": {"kind": "linear"},
}


def prediction_figures(module: Any, data: Any, record: ExitRecord, targets: Sequence[float]) -> dict[str, Any]:
    """Predictors fitted to the training rows, on test rows, at the speed of entropy's threshold.

    Threshold and coverage are those that give the speed-up by layers on these very test rows, which needs no labels:
    the policy and every predictor are compared at the same speed.
    """
    model, layers = module.model, module.model.exit_layers
    test = data.splits["test"]
    places = {int(index): place for place, index in enumerate(test.index)}
    rows = test.select(np.array([places[int(index)] for index in record.index]))
    test_rows = ScoredRows(rows, record.scores["entropy"])
    policy = Entropy().bind(model)
    scored = score_rows(model, policy, data.splits["train"], "linear")
    correct = record.logits.argmax(-1) == record.labels

    def accuracy(exits: torch.Tensor) -> float:
        return float(correct[exits, torch.arange(correct.shape[1])].double().mean())

    found: dict[str, Any] = {}
    for target in targets:
        threshold = threshold_for_speedup(record.scores["entropy"], layers, target)
        if threshold is None:
            continue
        taken = replay(record.scores["entropy"], threshold)
        for name, settings in PREDICTORS.items():
            chosen = PredictorSettings(coverage=None, **settings)
            predictor = fit_from_scores(model, scored, policy.with_threshold(min(max(threshold, 0.0), 1.0)), chosen)
            with torch.no_grad():
                distribution = distribution_of(predictor, test_rows)
            coverage = coverage_for_speedup(distribution, layers, target)
            if coverage is None:
                continue
            predicted = choose_exits(distribution, coverage)
            found[f"{target:g}x {name}"] = asdict(report(predicted, taken, layers, accuracy))
    return found
