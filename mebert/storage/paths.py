"""Checks of output paths, made before anything is computed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from mebert.errors import UserError

# Errors that the user can fix: disk, permissions, path. Any other is a bug of the program.
PLACES = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def check_output(name: str, path: str | Path, folder: bool = False, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse a file or folder that cannot be made, or that is one of the command's `inputs`.

    Raises:
        UserError: A file stands in the way, the folder above may not be written to, or what is there (a link, a second
            name) is read by the command itself.
    """
    path = Path(path)
    if path.exists():
        for source in inputs:
            if os.path.exists(source) and os.path.samefile(path, source):
                what = "is" if os.path.abspath(path) == os.path.abspath(source) else f"is the same file as {source},"
                raise UserError(f"{name} {path} {what} a file that the command reads; give another file for the output")
    if not folder and path.is_dir():
        raise UserError(f"{name} {path} is a folder; give a file name")
    place = path if folder else path.parent
    there = next((p for p in (place, *place.absolute().parents) if os.path.lexists(p)), Path("/"))
    if not there.is_dir():
        raise UserError(f"{name} {path} cannot be written: {there} is a file, not a folder; give another path")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{name} {path} cannot be written: {there} may not be written to; give another path")


def describe_os_error(error: OSError) -> str | None:
    """The message for an error of the operating system; None for one that the user cannot fix."""
    if error.errno not in PLACES:
        return None
    where = "" if error.filename is None else f" {error.filename}"
    advice = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "give another path"
    return f"cannot write or read{where}: {error.strerror}; {advice}, and run the command again"
