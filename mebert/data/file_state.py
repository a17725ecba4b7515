"""Whether a file is still the one whose reading began: by its size, time and inode."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from mebert.errors import UserError


@dataclass(frozen=True)
class FileState:
    """What tells one content of a file from the next."""

    size: int  # bytes
    mtime_ns: int
    inode: tuple[int, int]  # with its device

    @classmethod
    def of(cls, path: str) -> FileState:
        """The present state.

        Raises:
            UserError: It is a pipe or a device: those who read a file twice would wait for ever, or miss rows.
            OSError: There is no such file.
        """
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            copy = f"rows{Path(path).suffix}"
            raise UserError(
                f"{path} is a pipe or a device, which cannot be read twice, as mebert does: write it to a file first "
                f"(cat {path} > {copy}), and give that"
            )
        return cls(found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino))

    def check(self, path: str) -> None:
        """Raise a UserError if the file at `path` is another one now, or has another content."""
        try:
            now = FileState.of(path)
        except OSError:
            what = "it is not there any more"
        else:
            if now == self:
                return
            what = "another file took its place" if now.inode != self.inode else "it was written to"
            if now.size != self.size:
                what += f", {self.size:,} bytes before and {now.size:,} now"
        raise UserError(
            f"{path} changed while it was read ({what}), so that answers would go to other rows: run the command again "
            "when nothing writes to it any more, or on a copy"
        )
