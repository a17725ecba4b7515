"""A module's exit policy in its checkpoint, with the thresholds, the validation pass and the exit predictors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from typing_extensions import override

from mebert.data.label_names import check_data_labels, is_unnamed
from mebert.errors import UserError
from mebert.exit_predictor import predictor_from_state
from mebert.metrics.record_files import record_from_tensors, record_tensors
from mebert.modules.checks import check_texts
from mebert.modules.fitted_indicators import make_room_for_state
from mebert.modules.policy_choice import PolicyModule
from mebert.policies import ExitPolicy, policy_from_spec
from mebert.runtime.messages import rank_zero_warn
from mebert.storage.stored_weights import fill_weights, opening


class EarlyExitModule(PolicyModule):
    """A recipe whose checkpoint holds all that its policy needs.

    Attributes:
        text_settings: How its texts became tokens in training (`TokenisedSplits.text_settings`); None: not known.
    """

    old_defaults: ClassVar[Mapping[str, float]] = {"target_speedup": 2.0}
    """What mebert 0.1.0 stored for settings that the user had not set."""
    text_settings: dict[str, Any] | None = None

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
