"""A module's exit policy, and how validation data choose its thresholds.

Shapes: E exits, N samples of a recorded pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from mebert.calibration.default_point import default_threshold, expected_at
from mebert.calibration.per_exit import search_by_layers, thresholds_for_drop
from mebert.calibration.points import ROUNDING
from mebert.exit_predictor import ExitPredictor
from mebert.metrics.curve import ExitRecord, replay, speedup_layers, threshold_for_speedup
from mebert.metrics.task import USUAL_METRICS
from mebert.models.multi_exit import MultiExitModel
from mebert.modules.fitted_indicators import add_missing_parts, has_fitted_parts, refit
from mebert.policies import (
    DistanceRatio,
    Entropy,
    ExitPolicy,
    FixedExit,
    HybridDistanceEntropy,
    LearnedToExit,
    Margin,
    MaxProbability,
    ValueChange,
    policy_from_spec,
)
from mebert.policies.base import LOOSEST
from mebert.policies.temperature import fit_temperatures
from mebert.policies.top_k import final_score_bounds
from mebert.runtime.messages import rank_zero_warn
from mebert.storage.operating_point import OperatingPoint, asked_by
from mebert.storage.spec_parts import Expected
from mebert.storage.thresholds import Threshold, numbers_of, threshold_text

TARGET_SPEEDUPS = (1.5, 2.0, 3.0, 4.0)


class PolicyModule(L.LightningModule):
    """The exit policy of a recipe. A recipe may override `default_policy`, `score_policies` and `choose_policy`.

    Attributes:
        model: The multi-exit model.
        policy: The policy at its threshold, bound to the model.
        threshold: The threshold that the user gave (in the policy, too), or None.
        target_speedup: Speed-up by layers that the user gave, for which the threshold is chosen, or None.
        max_drop: Else the threshold is the fastest with at most this drop of the main metric on validation data.
        per_exit: Whether the policy's thresholds are chosen for each exit, together.
        metric: The main metric's name, in which the drop is measured.
        chosen_by: Which of these chose the policy's threshold, in words; None before a validation pass.
        operating_points: Policy name to target speed-up to threshold, from validation data.
        validation_record: The pass on which they were chosen; any other policy can be chosen on it later.
        exit_predictors: Exit predictors that were fitted to the policy's exits.
    """

    model: MultiExitModel
    policy: ExitPolicy
    threshold: Threshold | None
    target_speedup: float | None
    max_drop: float
    per_exit: bool = False

    def init_policy(self, given: ExitPolicy | dict[str, Any] | None) -> None:
        """Set the policy to the given one (or the one of a given `spec`), else to the recipe's own."""
        self.operating_points: dict[str, dict[float, Threshold]] = {}
        self.validation_record: ExitRecord | None = None
        self.metric = USUAL_METRICS[self.model.problem_type][0]
        self.exit_predictors: list[ExitPredictor] = []  # in a list: no part of what is trained
        policy = self.default_policy() if given is None else self._given_policy(given)
        add_missing_parts(self.model, policy.needs_prototypes, policy.needs_exit_scorer)
        self.policy = policy.bind(self.model)
        self.chosen_by: str | None = asked_by(self.threshold)
        if self.threshold is not None and self.target_speedup is not None:
            given_one = threshold_text(self.threshold, 6)
            rank_zero_warn(f"target_speedup {self.target_speedup:g} chooses nothing: threshold is {given_one}")

    def fit_indicators(self, exit_scorer: bool = True) -> None:
        """Let prototypes and (`exit_scorer`) a learning-to-exit head be fitted before each validation, if untrained."""
        model = self.model
        one_class = model.problem_type == "single_label_classification"
        add_missing_parts(model, prototypes=model.num_exits > 1 and one_class, exit_scorer=exit_scorer)
        self.policy = self.policy.bind(model)  # it may read what was not there before

    def default_policy(self) -> ExitPolicy:
        """The recipe's policy at the given threshold; without one at full depth, until validation data has chosen."""
        threshold = self.threshold or 0.0
        return ValueChange(threshold) if self.model.num_labels == 1 else Entropy(threshold)

    def score_policies(self) -> dict[str, ExitPolicy]:
        """The policies whose scores one evaluation pass records, by name, bound to the model; the module's among them.

        Not a fixed exit, which has nothing to sweep.
        """
        policies: list[ExitPolicy] = [Entropy(), MaxProbability(), Margin()]
        if self.model.num_labels == 1:
            policies = [ValueChange()]
        if self.model.prototypes is not None:
            policies += [DistanceRatio(), HybridDistanceEntropy()]
        if self.model.exit_scorer is not None:
            policies.append(LearnedToExit())
        found = {policy.name: policy.bind(self.model) for policy in policies}
        return found if isinstance(self.policy, FixedExit) else found | {self.policy.name: self.policy}

    def choose_policy(self, record: ExitRecord) -> None:
        """Choose what the policy has to choose besides its threshold, from a pass over validation data."""
        if self.policy.name not in record.scores:
            return
        fitted = self.policy.fitted(record)
        if fitted is not self.policy:
            self.policy = fitted.bind(self.model)
            fitted.set_scores(record)

    def rescore(self, record: ExitRecord) -> None:
        """Score a further validation split with what was just chosen on the first one (lambda, temperatures)."""
        record.temperatures = self.model.temperatures
        if self.policy.name in record.scores and type(self.policy).fitted is not ExitPolicy.fitted:
            self.policy.set_scores(record)

    def _given_policy(self, given: Any) -> ExitPolicy:
        """A policy of this module's own, from a policy or (what a checkpoint has kept of it) its `spec`."""
        policy = given if isinstance(given, ExitPolicy) else policy_from_spec(dict(given))
        self.hparams["policy"] = policy.spec()
        default = next(field.default for field in fields(policy) if field.name == "threshold")
        if self.threshold is None and policy.threshold != default:
            self.threshold = policy.threshold  # set by the user in the policy (of `Patience`, by its patience)
        return policy.with_threshold(policy.threshold if self.threshold is None else self.threshold)

    def choose_operating_points(
        self, record: ExitRecord, targets: Sequence[float] = TARGET_SPEEDUPS, metric: str | None = None
    ) -> None:
        """From a pass over validation data: thresholds for the target speed-ups, and the policy's own threshold.

        The latter is `threshold` or the one for `target_speedup`, where the user has set one of them. Else it is the
        fastest whose drop of the metric, against the last exit, is at most `max_drop`: full depth where none is.
        Where answers are ranked, the temperature of each exit, too, so that those of several exits are comparable.

        Args:
            record: The pass, with the scores of `score_policies`.
            targets: Speed-ups by layers. Those that no threshold attains are left out.
            metric: The task's main one; None for accuracy (of several labels a row the micro F1, in a regression
                Pearson's correlation).
        """
        self.metric = metric or self.metric
        self.choose_policy(record)
        ranked = record.queries is not None and self.model.num_labels > 1
        temperatures = fit_temperatures(record.logits, record.labels).tolist() if ranked else ()
        self.model.exit_temperatures = tuple(temperatures)
        self._bound_scores(record)
        record.temperatures = self.model.temperatures
        self.validation_record = record
        layers, own = self.model.exit_layers, self.target_speedup
        wanted = sorted({*targets, *([] if own is None else [own])})
        points: dict[str, dict[float, Threshold]] = {}
        for name, scores in record.scores.items():
            found = {t: threshold_for_speedup(scores, layers, t) for t in wanted}
            points[name] = {t: value for t, value in found.items() if value is not None}
        if self.per_exit and self.policy.name in record.scores:
            answered = record.answered_by(self.policy.name)
            search = search_by_layers(answered, record.scores[self.policy.name], layers, self.metric)
            own_points = {t: search.for_cost(layers[-1] / t * ROUNDING) for t in points[self.policy.name]}
            points[self.policy.name] = {t: value for t, value in own_points.items() if value is not None}
        self.operating_points = points
        self._choose_threshold(record)

    def _bound_scores(self, record: ExitRecord | None) -> None:
        """Bounds on final ranking scores from a validation pass, for a reranker; none where nothing is ranked."""
        ranked = record is not None and record.queries is not None and self.model.num_labels <= 2
        temperatures = self.model.exit_temperatures
        self.model.score_bounds = final_score_bounds(record.logits, temperatures) if record and ranked else {}

    def _choose_threshold(self, record: ExitRecord) -> None:
        """The policy's own threshold, by `threshold`, `target_speedup` or `max_drop`."""
        scores, target = record.scores.get(self.policy.name), self.target_speedup
        if self.threshold is not None:
            self.chosen_by = asked_by(self.threshold)
        elif scores is None:
            self.chosen_by = "the policy, which has no threshold to choose"
        elif target is None:
            record = record.answered_by(self.policy.name)
            chosen: Threshold = default_threshold(record, scores, self.metric, self.max_drop)
            if self.per_exit:
                how = self.policy.name, self.model.exit_layers, self.metric, self.max_drop
                chosen = thresholds_for_drop(record, *how)
            self.policy = self.policy.with_threshold(chosen)
            self.chosen_by = f"max_drop {self.max_drop:g}"
        else:
            reached = self.operating_points.get(self.policy.name, {}).get(target)
            self.chosen_by = f"target_speedup {target:g}"
            if reached is None:
                most = speedup_layers(replay(scores, float("inf")), self.model.exit_layers)
                self.chosen_by += ", out of reach"
                rank_zero_warn(
                    f"target_speedup {target:g} is out of reach: leaving as early as it can, the policy "
                    f"{self.policy.name!r} gives {most:.2f}"
                )
            self.policy = self.policy.with_threshold(LOOSEST if reached is None else reached)

    def point_of(self, policy: ExitPolicy, chosen_by: str | None = None) -> OperatingPoint:
        """The operating point of a policy (the module's own at any threshold), with what validation data expect."""
        record = self.validation_record
        known = None if record is None else expected_at(record, policy, self.model.exit_layers, self.metric)
        return OperatingPoint(policy.name, policy.threshold, chosen_by or "full depth until it is validated", known)

    @property
    def operating_point(self) -> OperatingPoint:
        """The point at which the module runs."""
        return self.point_of(self.policy, self.chosen_by)

    @property
    def max_drops(self) -> dict[str, dict[float, Threshold]]:
        """Policy name to largest drop to threshold: the default point, where `max_drop` has chosen it."""
        chosen = self.chosen_by == f"max_drop {self.max_drop:g}"
        return {self.policy.name: {self.max_drop: self.policy.threshold}} if chosen else {}

    def expected_points(self) -> dict[str, list[Expected]]:
        """Policy name to what validation data expect at its stored thresholds and at the module's own."""
        policies = self.score_policies() | {self.policy.name: self.policy}
        found: dict[str, list[Expected]] = {}
        for name, policy in policies.items():
            stored = {*self.operating_points.get(name, {}).values()}
            own = {policy.threshold} if policy is self.policy else set()
            points = [
                self.point_of(policy.with_threshold(at)).expected for at in sorted({0.0, *stored, *own}, key=numbers_of)
            ]
            found[name] = [point for point in points if point is not None]
        return found

    def on_validation_epoch_start(self) -> None:
        """Fit prototypes and learning-to-exit heads that the recipe does not train to the current weights."""
        trainer = self.trainer
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and has_fitted_parts(self.model):
            refit(trainer, self.model)
