"""Writing checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from mebert.errors import UserError
from mebert.storage.atomic import atomic_write
from mebert.storage.paths import describe_os_error


class NotWritten(UserError):
    """A checkpoint could not be written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, as long as its folder is on a disk; raises `NotWritten`.

    Lightning's own writes to the folder of temporary files first; where that is another disk, what is moved from there
    is copied over the old file, and a kill leaves neither. It also holds a second copy in memory.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            atomic_write(checkpoint, Path(path))
        except OSError as error:
            raise NotWritten(describe_os_error(error) or f"cannot write {path}: {error.strerror}") from error
