"""How Lightning writes the checkpoints of mebert's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from mebert.errors import UserError
from mebert.output_paths import describe_os_error
from mebert.whole_files import write_whole

__all__ = ["NotWritten", "WholeCheckpointIO"]


class NotWritten(UserError):
    """A checkpoint could not be written."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, as long as its folder is on a disk.

    Lightning's own writes to the folder of temporary files first; where that is another disk, what is moved from there
    is copied over the old file, and a kill leaves neither. It also holds a second copy in memory.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            NotWritten: It cannot be written; what was there under that name is there still.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            write_whole(checkpoint, Path(path))
        except OSError as error:
            raise NotWritten(describe_os_error(error) or f"cannot write {path}: {error.strerror}") from error
