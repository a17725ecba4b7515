"""Whether a checkpoint fits the data and the settings of a command, checked before the run has a folder."""

from __future__ import annotations

from typing import Any

from mebert.cli.settings import Command
from mebert.data.label_names import check_data_labels
from mebert.errors import UserError
from mebert.exit_predictor import choose_predictor
from mebert.policies import policy_from_spec
from mebert.policies.stored_thresholds import checkpoint_threshold


def check_match(command: Command, data: Any, model: Any) -> None:
    """Refuse a command whose checkpoint has other labels, or lacks the threshold or the exit predictor asked for."""
    if command.checkpoint is None:
        return
    path, checkpoint = command.config.ckpt_path, command.checkpoint
    trained = checkpoint.get("hyper_parameters", {}).get("num_labels")
    given = getattr(data, "num_labels", trained)
    if trained is not None and trained != given:
        raise UserError(f"{path} was trained for {trained} labels, but this data has {given}: wrong --ckpt_path?")
    several = "multi_label_classification"
    kinds = checkpoint.get("hyper_parameters", {}).get("problem_type"), getattr(data, "problem_type", None)
    if kinds.count(several) == 1 and None not in kinds:
        raise UserError(f"{path} was trained for {kinds[0]}, but this data is for {kinds[1]}: wrong --ckpt_path?")
    saved = checkpoint["mebert"]
    check_data_labels(saved.get("label_names"), data)
    if command.name != "predict":
        return
    asked = command.config.predictions
    if asked.speedup is not None or asked.max_drop is not None:
        state, points, policy = checkpoint["state_dict"], saved["operating_points"], policy_from_spec(saved["policy"])
        checkpoint_threshold(path, state, policy, points, asked.speedup, asked.max_drop)
    if asked.engine == "predicted" and asked.speedup != 1 and not saved.get("exit_predictors"):
        choose_predictor([], model.policy)  # raises, with what to do
