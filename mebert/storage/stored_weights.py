"""Weights that are stored once: the best checkpoint of a finished run refers to those of the run's model folder.

A reference is the file's name in the folder, its SHA-256 digest and the tensor's name in it. What the folder does not
hold bit for bit stays in the checkpoint.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mebert.errors import UserError
from mebert.storage.atomic import atomic_write
from mebert.storage.json_values import check_values
from mebert.storage.run_folder import NamedModel, RunFolder
from mebert.storage.weight_files import EXITS_FILE, file_digest, weight_files

KEY = "weights_in_model"  # of what mebert adds to a checkpoint

_opened: ContextVar[Path | None] = ContextVar("opened", default=None)


class StoredWeights(BaseModel):
    """Which weights a model folder holds.

    Attributes:
        files: File name to SHA-256 digest.
        tensors: Name in the module's state to file name and name in the file.
    """

    files: dict[str, str]
    tensors: dict[str, tuple[str, str]]


def store_once(checkpoint: Path) -> None:
    """Replace `<run>/checkpoints/<name>.ckpt` by one without the weights that `<run>/model` holds, atomically.

    The folder must be complete before. Optimiser states are left as they are.
    """
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    folder = RunFolder.of_checkpoint(checkpoint.resolve()).model
    held: dict[str, tuple[str, str]] = {}
    for file in weight_files(folder).values():
        for name, value in load_file(file).items():
            held.setdefault(_digest(value), (file.name, name))
    state = content["state_dict"]
    tensors = {name: held[digest] for name, value in state.items() if (digest := _digest(value)) in held}
    if not tensors:
        return
    used = {name: file_digest(folder / name) for name in sorted({file for file, _ in tensors.values()})}
    content["state_dict"] = {name: value for name, value in state.items() if name not in tensors}
    content["mebert"][KEY] = StoredWeights(files=used, tensors=tensors).model_dump()
    atomic_write(content, checkpoint)


def fill_weights(content: Mapping[str, Any], checkpoint: str | Path | None = None) -> None:
    """Put the weights of a checkpoint's model folder into its content, where it refers to them.

    Args:
        content: Of the checkpoint; changed in place.
        checkpoint: Its path; by default the one that is opened in `opening`.

    Raises:
        UserError: The folder is not there, or its weights are not those of the checkpoint.
    """
    found = content["mebert"].get(KEY)
    if found is None:
        return
    checkpoint = checkpoint or _opened.get()
    if checkpoint is None:
        raise UserError(
            "this checkpoint has its weights in the model folder of its run: open it by its path, with "
            "load_from_checkpoint of a class of mebert or with mebert.storage.checkpoints.read_checkpoint"
        )
    stored = check_values(StoredWeights, found, f"{checkpoint}: {KEY}")
    folder = RunFolder.of_checkpoint(Path(checkpoint).resolve()).model
    there = weight_files(folder)
    if lost := sorted(stored.files.keys() - there.keys()):
        raise UserError(
            f"{checkpoint} has its weights in the model folder of its run, and {folder / lost[0]} is missing: copy the "
            "run's folder whole (checkpoints/ and model/), or give the model folder alone where one is taken"
        )
    for name, digest in stored.files.items():
        if file_digest(there[name]) != digest:
            raise UserError(
                f"{checkpoint} has its weights in the model folder of its run, and {there[name]} is damaged or of "
                "another training: put the run's own back, or train anew"
            )
    try:
        opened = {name: load_file(there[name]) for name in stored.files}
        weights = {name: opened[file][key] for name, (file, key) in stored.tensors.items()}
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{checkpoint}: {KEY} does not fit {folder}: {error}; train anew") from error
    content["state_dict"].update(weights)
    del content["mebert"][KEY]


def trained_folder(named: NamedModel) -> str:
    """The folder of a named model's exits; a run's must hold those of the run's best checkpoint.

    Raises:
        UserError: There is none, or it is that of another training. A folder that is named itself is not compared.
    """
    folder = named.saved
    if named.run is None or named.checkpoint is None or Path(named.name).resolve() == Path(folder).resolve():
        return folder
    known: dict[str, str] = {}
    with suppress(pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError, TypeError):
        content = torch.load(named.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        known = content["mebert"][KEY]["files"]
    file = Path(folder) / EXITS_FILE
    if file.name in known and file.is_file() and file_digest(file) != known[file.name]:
        raise UserError(
            f"{folder} is not the model that {named.checkpoint} was trained to: it is of another training, or damaged; "
            f"put the run's own back, or name the folder itself to use it as it is: {folder}"
        )
    return folder


@contextmanager
def opening(checkpoint: Any) -> Iterator[None]:
    """Where Lightning opens a checkpoint by itself, and tells its module only the content."""
    token = _opened.set(Path(checkpoint) if isinstance(checkpoint, str | Path) else None)
    try:
        yield
    finally:
        _opened.reset(token)


def _digest(tensor: Tensor) -> str:
    """Of type, shape and bytes."""
    plain = tensor.detach().cpu().contiguous()
    data = plain.view(-1).view(torch.uint8).numpy() if plain.numel() else b""
    return hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode() + bytes(data)).hexdigest()
