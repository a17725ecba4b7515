"""What is looked into: a checkpoint, a run, or a saved model, opened as the classifier that one would use it by."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L

from mebert.choices import PrecisionName
from mebert.commands.parser import summarize_parse_error
from mebert.data.tokenised import load_tokenizer
from mebert.errors import UserError
from mebert.exit_predictor import load_predictors
from mebert.inference.classifier import EarlyExitClassifier
from mebert.models import MultiExitModel
from mebert.modules.exit_policy import EarlyExitModule
from mebert.policies.stored_thresholds import load_policy, thresholds_beside
from mebert.runtime.precision import pick_device
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.model_spec import SPEC_FILE, ModelSpec, saved_model_folder
from mebert.storage.run_folder import RunFolder

__all__ = ["Opened", "open_model"]


@dataclass
class Opened:
    """A model that is ready to answer, and where it comes from.

    Attributes:
        name: As the user gave it.
        classifier: Holds the copy that runs, the policy, thresholds and exit predictors.
        model: As it was trained; what its exits cost is counted here.
        tokenizer: Folder or Hub id of its tokenizer.
        run: The folder of its run, with a `config.yaml`; None where there is none.
        checkpoint: The file for `predict`; None where there is none.
    """

    name: str
    classifier: EarlyExitClassifier
    model: MultiExitModel
    tokenizer: str
    run: Path | None
    checkpoint: Path | None

    @property
    def max_length(self) -> int:
        """Longest text in tokens, as the classifier reads it."""
        return int(min(self.model.adapter.max_length, self.classifier.tokenizer.model_max_length))


def open_model(name: str, device: str = "auto", precision: PrecisionName | None = None) -> Opened:
    """Open what `inspect` was given.

    Args:
        name: A checkpoint (a file), a run (its folder `model`, else its best checkpoint), a model folder, or a Hub id.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: As the classifier's.

    Raises:
        UserError: There is no such thing, it holds no exits, or it cannot be read.
    """
    path = Path(name)
    if path.is_file():
        return _open_checkpoint(name, path, device, precision)
    if not path.exists() and (path.suffix == ".ckpt" or name.startswith((".", "/")) or name.count("/") > 1):
        raise UserError(f"model {name!r}: no such file or folder; give a checkpoint, a run, or a model folder")
    folder = saved_model_folder(name)
    best = RunFolder(path).checkpoint()
    if folder is None and best.is_file():
        return _open_checkpoint(name, best, device, precision)
    if folder is None:
        raise UserError(
            f"model {name!r} holds no exits; give a checkpoint, a run, or its folder model, as `fit` writes them"
        )
    model, spec = MultiExitModel.from_pretrained(folder), ModelSpec.read(folder)
    classifier = EarlyExitClassifier(
        model,
        load_tokenizer(folder),
        load_policy(folder, model),
        spec.operating_points,
        load_predictors(folder),
        pick_device(device),
        precision,
        max_drops=spec.thresholds_for_max_drop(),
    )
    run = _run_of(Path(folder).resolve().parent, Path(folder).parent)
    return Opened(name, classifier, model, folder, run, None if run is None else _file(RunFolder(run).checkpoint()))


def _open_checkpoint(name: str, path: Path, device: str, precision: PrecisionName | None) -> Opened:
    content = read_checkpoint(path)
    settings = content["hyper_parameters"]
    if "_class_path" not in settings:
        raise UserError(
            f"{path} does not say which class it is of (it was written from Python, not by `fit`): save its model by "
            "MultiExitModel.save_pretrained with a tokenizer, and give that folder"
        )
    folder = RunFolder.of_checkpoint(path.resolve()).model
    module = _load(path, str(folder) if (folder / SPEC_FILE).is_file() and not settings.get("encoder_config") else None)
    model = module.model.eval()
    saved = content["mebert"]
    model.label_names = list(saved.get("label_names") or model.label_names)
    pretrained = None if settings.get("encoder_config") else settings.get("encoder")
    tokenizer = str(folder) if (folder / SPEC_FILE).is_file() else pretrained
    if tokenizer is None:
        raise UserError(
            f"{path} has no tokenizer beside it ({folder} is missing, and its encoder was made from a configuration): "
            "give a model folder that has one"
        )
    points, drops = thresholds_beside(path, content["state_dict"], module.policy, saved["operating_points"])
    classifier = EarlyExitClassifier(
        model,
        load_tokenizer(tokenizer),
        module.policy,
        points,
        module.exit_predictors,
        pick_device(device),
        precision,
        max_drops=drops,
    )
    run = _run_of(path.resolve().parent.parent, path.parent.parent)
    return Opened(name, classifier, model, tokenizer, run, path)


def _load(path: Path, encoder: str | None) -> EarlyExitModule:
    """The module of a checkpoint; its encoder is built from a folder where one is given, and not from the Hub."""
    settings: dict[str, Any] = {} if encoder is None else {"encoder": encoder}
    try:
        # Of LightningModule: through a class without **kwargs Lightning would build that class, not the named one.
        module = L.LightningModule.load_from_checkpoint(path, map_location="cpu", weights_only=True, **settings)
    except (ValueError, TypeError, KeyError, RuntimeError, argparse.ArgumentError) as error:
        raise UserError(f"{path} cannot be loaded: {summarize_parse_error(str(error))}") from error
    if not isinstance(module, EarlyExitModule):
        raise UserError(f"{path} is of {type(module).__name__}, which has no exits to look into")
    return module


def _run_of(resolved: Path, shown: Path) -> Path | None:
    """The folder of the run, as the user would write it."""
    if not RunFolder(resolved).config.is_file():
        return None
    return shown if shown.is_dir() and shown.resolve() == resolved else resolved


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None
