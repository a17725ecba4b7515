"""Whether a checkpoint fits the data and the settings of a command, checked before the run has a folder."""

from __future__ import annotations

from typing import Any

from mebert.cli.settings import Command
from mebert.data.labels import check_label_order
from mebert.errors import UserError
from mebert.exit_predictor import choose_predictor
from mebert.policies import policy_from_spec
from mebert.policies.stored_thresholds import checkpoint_threshold


def check_match(command: Command, data: Any, model: Any) -> None:
    """Refuse a command whose checkpoint has other labels, or lacks the threshold or the exit predictor asked for."""
    path, checkpoint = command.config.ckpt_path, command.checkpoint or {}
    trained = checkpoint.get("hyper_parameters", {}).get("num_labels")
    given = getattr(data, "num_labels", trained)
    if trained is not None and trained != given:
        raise UserError(f"{path} was trained for {trained} labels, but this data has {given}: wrong --ckpt_path?")
    if command.name != "predict":
        return
    asked, saved = command.config.predictions, checkpoint["mebert"]
    if asked.format == "glue":
        names, advice = saved.get("label_names"), "wrong --ckpt_path or --data.task?"
        check_label_order(names, data.label_names, "predictions.format glue", advice)
    if asked.speedup is not None or asked.max_drop is not None:
        state, points, policy = checkpoint["state_dict"], saved["operating_points"], policy_from_spec(saved["policy"])
        checkpoint_threshold(path, state, policy, points, asked.speedup, asked.max_drop)
    if asked.engine == "predicted" and asked.speedup != 1 and not saved.get("exit_predictors"):
        choose_predictor([], model.policy)  # raises, with what to do
