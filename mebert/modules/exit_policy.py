"""A module's exit policy with its thresholds, chosen on validation data and kept in the checkpoint.

Shapes: E exits, N samples of a recorded pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Self

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from mebert.calibration.default_point import default_threshold, expected_at
from mebert.calibration.per_exit import search_by_layers, thresholds_for_drop
from mebert.calibration.points import ROUNDING
from mebert.data.label_names import check_data_labels, is_unnamed
from mebert.errors import UserError
from mebert.exit_predictor import ExitPredictor, predictor_from_state
from mebert.metrics.curve import ExitRecord, replay, speedup_layers, threshold_for_speedup
from mebert.metrics.record_files import record_from_tensors, record_tensors
from mebert.metrics.task import USUAL_METRICS
from mebert.models.multi_exit import MultiExitModel
from mebert.modules.checks import check_texts
from mebert.modules.fitted_indicators import add_missing_parts, has_fitted_parts, make_room_for_state, refit
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
from mebert.storage.stored_weights import fill_weights, opening
from mebert.storage.thresholds import Threshold, numbers_of, threshold_text

TARGET_SPEEDUPS = (1.5, 2.0, 3.0, 4.0)


class EarlyExitModule(L.LightningModule):
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
        text_settings: How its texts became tokens in training (`PreparedSplits.text_settings`); None: not known.
    """

    model: MultiExitModel
    policy: ExitPolicy
    threshold: Threshold | None
    target_speedup: float | None
    max_drop: float
    per_exit: bool = False
    old_defaults: ClassVar[Mapping[str, float]] = {"target_speedup": 2.0}
    """What mebert 0.1.0 stored for settings that the user had not set."""
    text_settings: dict[str, Any] | None = None

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = getattr(getattr(self._trainer, "datamodule", None), "text_settings", self.text_settings)
        checkpoint["mebert"] = {
            "texts": own,
            "policy": self.policy.spec(),
            "operating_points": self.operating_points,
            "operating_point": {"chosen_by": self.chosen_by, "metric": self.metric},
            "label_names": list(self.model.label_names),
            "exit_temperatures": list(self.model.exit_temperatures),
        }
        if self.validation_record is not None:  # small beside the weights; any other policy can be chosen on it later
            checkpoint["mebert"]["validation_record"] = record_tensors(self.validation_record)

    @classmethod
    @override
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """As Lightning's; the best checkpoint of a finished run has its weights in the model folder beside it."""
        with opening(checkpoint_path):
            kwargs.pop("weights_only", None)
            return super().load_from_checkpoint(checkpoint_path, *args, weights_only=True, **kwargs)  # type: ignore[misc]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get("mebert")
        if saved is None:
            raise UserError("this checkpoint was not written by mebert: it holds no exit policy")
        fill_weights(checkpoint, getattr(self._trainer, "ckpt_path", None))
        make_room_for_state(self.model, checkpoint.get("state_dict", ()))  # what was fitted to a recipe without it
        names = saved.get("label_names")
        if not is_unnamed(names):  # the model's, whatever the data say
            check_data_labels(names, getattr(self._trainer, "datamodule", None))
            self.model.label_names = list(names)
        self.text_settings = saved.get("texts")
        if (texts := self.text_settings) is not None and texts.get("stride") is not None:
            self.model.window = texts["max_length"]
        check_texts(self.text_settings, getattr(self._trainer, "datamodule", None))
        self.operating_points = saved["operating_points"]
        self.model.exit_temperatures = tuple(saved.get("exit_temperatures", ()))  # 0.1.0 had none
        recorded = saved.get("validation_record")
        self.validation_record = None if recorded is None else record_from_tensors(recorded)
        self._bound_scores(self.validation_record)
        # Not saved again by `on_save_checkpoint`: training on makes other exits of them.
        states = saved.get("exit_predictors", [])
        self.exit_predictors = [predictor_from_state(state).bind(self.model) for state in states]
        policy = policy_from_spec(saved["policy"]).bind(self.model)
        if (point := saved.get("operating_point")) is None:
            self._open_0_1_0(policy)
            return
        self.policy = policy if self.threshold is None else policy.with_threshold(self.threshold)
        self.chosen_by, self.metric = point["chosen_by"], point["metric"] or self.metric

    def _open_0_1_0(self, policy: ExitPolicy) -> None:
        """The operating point of a checkpoint of mebert 0.1.0, which stored no reason for its threshold.

        With a validation pass it is chosen as in a new run, unless the user had set another speed-up or threshold than
        the defaults of then; without one the threshold stays.
        """
        self.threshold = self.hparams.get("threshold")  # that of a given policy did not count
        for name, default in self.old_defaults.items():
            if getattr(self, name) == default:
                setattr(self, name, None)
                self.hparams[name] = None
        self.policy = policy if self.threshold is None else policy.with_threshold(self.threshold)
        if self.validation_record is None:
            self.chosen_by = "mebert 0.1.0, which stored no validation pass to choose by"
            rank_zero_warn(f"operating point: {self.policy.name} keeps its threshold, by {self.chosen_by}")
            return
        data = getattr(self._trainer, "datamodule", None)
        self.metric = next(iter(getattr(data, "metrics", None) or ()), self.metric)
        self._choose_threshold(self.validation_record)
