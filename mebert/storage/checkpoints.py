"""Finding and checking checkpoints: the checkpoint that a command line names."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mebert.errors import UserError
from mebert.storage.atomic import find_corruption
from mebert.storage.checkpoint_parts import CheckpointParts
from mebert.storage.finite import check_finite
from mebert.storage.json_values import check_values
from mebert.storage.run_folder import RunFolder, newest_run
from mebert.storage.spec_parts import check_label_names
from mebert.storage.stored_weights import fill_weights
from mebert.storage.trusted_classes import check_named_classes, imported_class, strict_parsing


class DamagedCheckpoint(UserError):
    """A file that is a checkpoint no more; `other` is the newest whole one beside it, if any."""

    def __init__(self, path: Path, fault: str) -> None:
        self.other = _other_than(path)
        whole = "" if self.other is None else ", which is whole"
        super().__init__(f"{path} is not a readable checkpoint: {fault}; {_advice(self.other)}{whole}")


TRAIN_ON = (
    "to train longer, train again with --last_checkpoint.keep true and a larger --trainer.max_epochs; to begin a new "
    "training with its encoder: --model.encoder <run folder>/model"
)


def find_checkpoint(given: str, experiment_folder: Path, run: str | None = None) -> Path:
    """The file that `--ckpt_path` means: a path, or `last` or `best` of this run or else of the newest that has one."""
    if given not in ("last", "best"):
        path = Path(given)
        if not path.is_file():
            hint = "it is a folder; name the file in it" if path.is_dir() else "no such file; give another"
            raise UserError(f"--ckpt_path {given}: {hint} (or `last` or `best`)")
        return path
    own = experiment_folder / (run or "")
    if run is not None and RunFolder(own).checkpoint(given).is_file():
        return RunFolder(own).checkpoint(given)
    trained = [path for path in experiment_folder.glob("*") if any(RunFolder(path).checkpoints.glob("*.ckpt"))]
    if given == "last" and trained:
        newest = own if own in trained else newest_run(trained)
        if not RunFolder(newest).checkpoint("last").is_file():  # nor is an older run's meant, which was stopped
            raise UserError(
                f"--ckpt_path last: the training of {newest} is finished, and its last.ckpt was removed; {TRAIN_ON}"
            )
    found = [path for path in trained if RunFolder(path).checkpoint(given).is_file()]
    if not found:
        raise UserError(
            f"--ckpt_path {given}: no {experiment_folder}/*/checkpoints/{given}.ckpt; "
            "train first: python -m mebert fit --config <the same config>"
        )
    return RunFolder(newest_run(found)).checkpoint(given)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of mebert, read once for its checksums, with the weights that its run's model folder holds.

    Its tensors are mapped.

    Raises:
        DamagedCheckpoint: It is cut off or damaged.
        UserError: It is some other file; it names a class that is not imported; or its model folder is missing.
    """
    try:
        fault = find_corruption(path)
    except OSError as error:
        fault = str(error.strerror)
    if fault is not None:
        raise DamagedCheckpoint(path, fault)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:  # also of what is no pickle at all
        raise UserError(
            f"{path} is not a readable checkpoint: it is damaged, or holds objects whose opening would run code, which "
            "mebert never does; give one that `fit` has written (plain values and tensors)"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        size = path.stat().st_size
        fault = "it was cut off, or is some other file" if size else "it is empty"
        raise UserError(f"{path} is not a readable checkpoint: {fault}; {_advice(_other_than(path))}") from error
    if not isinstance(content, dict) or "state_dict" not in content or "mebert" not in content:
        raise UserError(
            f"{path} is not a checkpoint of mebert; `fit` writes them as <run folder>/checkpoints/best.ckpt"
        )
    check_values(CheckpointParts, content, f"{path} is a damaged checkpoint", _advice(_other_than(path)))
    fill_weights(content, path)
    check_finite(str(path), content["state_dict"])
    if (names := content["mebert"].get("label_names")) is not None:
        try:
            check_label_names(names)
        except UserError as error:
            raise UserError(f"{path}: {error}; {_advice(_other_than(path))}") from error
    import lightning as L
    from lightning.pytorch.core.saving import CHECKPOINT_PAST_HPARAMS_KEYS

    # Lightning hands the saved settings to a parser, which would import and call what they name.
    strict_parsing()
    for key in (L.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY, *CHECKPOINT_PAST_HPARAMS_KEYS):
        settings = dict(content.get(key) or {})
        named = [settings.pop(name) for name in ("_class_path", "class_path") if name in settings]
        kinds = [imported_class(name, L.LightningModule, f"{path}: its module", "--model") for name in named]
        check_named_classes(settings, str(path), kinds[0] if kinds else None, "--model")
    return content


def check_resumable(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that a training cannot go on from, because it has no state of the optimiser."""
    if "optimizer_states" in content:
        return
    last = path.with_name("last.ckpt")
    advice = f"go on from {last}: --ckpt_path {last}" if last.is_file() and last != path else TRAIN_ON
    raise UserError(
        f"--ckpt_path {path}: it has weights alone and no state of the optimizer, which a training needs to go on "
        f"exactly; {advice}"
    )


def _advice(other: Path | None) -> str:
    return "give another one, or train anew" if other is None else f"there is also {other}"


def _other_than(path: Path) -> Path | None:
    """The newest whole checkpoint beside this one."""
    beside = [p for p in path.parent.glob("*.ckpt") if p.name != path.name]
    for other in sorted(beside, key=lambda p: p.stat().st_mtime_ns, reverse=True):
        if find_corruption(other) is None:
            return other
    return None
