"""The model to inspect: a checkpoint, a run, or a saved model, opened as the classifier that predicts with it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mebert.choices import PrecisionName
from mebert.commands.parser import summarize_parse_error
from mebert.data.tokenizers import load_tokenizer, stored_settings, tell_unknown_length
from mebert.errors import UserError
from mebert.inference.classifier import EarlyExitClassifier
from mebert.models import MultiExitModel
from mebert.policies.stored_thresholds import thresholds_beside
from mebert.runtime.precision import pick_device
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.json_values import faults_in
from mebert.storage.model_folder import SPEC_FILE
from mebert.storage.run_folder import RunFolder, find_model
from mebert.storage.stored_weights import opening, trained_folder


@dataclass
class Opened:
    """An opened model, `name` as the user gave it."""

    name: str
    classifier: EarlyExitClassifier  # has the copy that runs, the policy, thresholds and exit predictors
    model: MultiExitModel  # as it was trained; the cost of its exits is computed from it
    tokenizer: str  # folder or Hub id
    run: Path | None  # its run's folder, with a `config.yaml`
    checkpoint: Path | None  # for `predict`

    @property
    def max_length(self) -> int:
        """Longest text in tokens, as the classifier reads it."""
        return self.classifier.max_length


def open_model(name: str, device: str = "auto", precision: PrecisionName | None = None) -> Opened:
    """Open a checkpoint (a file), a run (its folder `model`, else its best checkpoint), a model folder, or a Hub id.

    Raises:
        UserError: There is no such thing, it has no exits, or it cannot be read.
    """
    named = find_model(name)
    if named.checkpoint is not None and (named.model is None or Path(name).is_file()):
        return _open_checkpoint(name, named.checkpoint, device, precision)
    folder = trained_folder(named)
    classifier = EarlyExitClassifier.from_pretrained(folder, device, precision)
    run = _run_of(Path(folder))
    checkpoint = None if run is None else RunFolder(run).checkpoint()
    model = MultiExitModel.from_pretrained(folder)
    return Opened(name, classifier, model, folder, run, checkpoint if checkpoint and checkpoint.is_file() else None)


def _open_checkpoint(name: str, path: Path, device: str, precision: PrecisionName | None) -> Opened:
    import lightning as L

    from mebert.modules.exit_policy import EarlyExitModule

    content = read_checkpoint(path)
    settings, saved = content["hyper_parameters"], content["mebert"]
    if "_class_path" not in settings:
        raise UserError(
            f"{path} does not name its class (it was written from Python, not by `fit`): save its model by "
            "MultiExitModel.save_pretrained with a tokenizer, and give that folder"
        )
    beside = RunFolder.of_checkpoint(path.resolve()).model
    folder = str(beside) if (beside / SPEC_FILE).is_file() else None
    configured = bool(settings.get("encoder_config"))
    # The encoder is built from the model folder beside it where there is one, without the Hub.
    changes: dict[str, Any] = {} if configured or folder is None else {"encoder": folder}
    with faults_in(f"{path} cannot be loaded", "give another checkpoint, or train anew"):
        # Of LightningModule: through a class without **kwargs Lightning would build that class, not the named one.
        try:
            with opening(path):
                module = L.LightningModule.load_from_checkpoint(path, map_location="cpu", weights_only=True, **changes)
        except (ValueError, RuntimeError, argparse.ArgumentError) as error:
            raise UserError(summarize_parse_error(str(error))) from error
    if not isinstance(module, EarlyExitModule):
        raise UserError(f"{path} is of {type(module).__name__}, which has no exits to inspect")
    model = module.model.eval()
    tokenizer = folder or (None if configured else settings.get("encoder"))
    if tokenizer is None:
        raise UserError(
            f"{path} has no tokenizer beside it ({beside} is missing, and its encoder was made from a configuration): "
            "give a model folder that has one"
        )
    points, drops = thresholds_beside(path, content["state_dict"], module.policy, saved["operating_points"])
    texts = saved.get("texts")
    read = load_tokenizer(tokenizer, **(stored_settings(texts) if folder is None else {}))
    longest, number = (texts or {}).get("max_length"), (texts or {}).get("num_texts")
    loaded = model, read, module.policy, points, module.exit_predictors
    known: dict[str, Any] = {"chosen_by": module.chosen_by, "expected": module.expected_points()}
    known["stride"] = (texts or {}).get("stride")
    classifier = EarlyExitClassifier(*loaded, pick_device(device), precision, False, drops, longest, number, **known)
    if longest is None:
        tell_unknown_length(str(path), classifier.max_length)
    return Opened(name, classifier, model, tokenizer, _run_of(path.parent), path)


def _run_of(folder: Path) -> Path | None:
    """The run that a folder is in, as the user would write it; None if there is no config.yaml."""
    resolved = folder.resolve().parent
    if not RunFolder(resolved).config.is_file():
        return None
    return folder.parent if folder.parent.resolve() == resolved else resolved
