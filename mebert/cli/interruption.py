"""The message of a command that a signal or a full disk has ended: what was kept, and the command that continues it."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException

from mebert.callbacks.last_checkpoint import LastCheckpoint
from mebert.callbacks.stop_on_signal import Stopped
from mebert.errors import UserError
from mebert.storage.checkpoint_io import NotWritten
from mebert.storage.paths import describe_os_error
from mebert.storage.run_folder import RunFolder, run_folder


@contextmanager
def ends_cleanly(trainer: Any, training: bool) -> Iterator[None]:
    """End a command without a stack trace after a signal (status 128 + its number), or if a file cannot be written."""
    try:
        yield
    except SystemExit as error:
        signum = _signal_behind(error)
        if signum is None:
            raise
        if trainer.is_global_zero:
            more = "; there is no checkpoint yet" if training else ""
            if training and (command := _command_to_continue(trainer)):
                more = f" (step {trainer.global_step}); go on: {command}"
            print(f"mebert: stopped by {signal.Signals(signum).name}{more}", file=sys.stderr)
            if isinstance(error, Stopped) and error.said:
                print(f"mebert: {error.said}", file=sys.stderr)
        raise SystemExit(128 + signum) from None
    except (NotWritten, OSError) as error:
        text = describe_os_error(error) if isinstance(error, OSError) else str(error)
        if text is None:  # a fault of the program
            raise
        if training and (command := _command_to_continue(trainer)):
            text += f"; to go on from the last checkpoint, which is whole: {command}"
        raise UserError(text) from error


def same_command(words: Sequence[str], checkpoint: Path) -> str:
    """A command line with another checkpoint."""
    pairs = zip(["", *words], words, strict=False)
    kept = [word for before, word in pairs if before != "--ckpt_path" and not word.startswith("--ckpt_path")]
    return shlex.join(["python", "-m", "mebert", *kept, "--ckpt_path", str(checkpoint)])


def _signal_behind(error: SystemExit) -> int | None:
    if isinstance(error, Stopped):
        return error.signum
    if isinstance(error, SIGTERMException):  # Lightning's, outside of training
        return signal.SIGTERM
    return signal.SIGINT if isinstance(error.__context__, KeyboardInterrupt) else None


def _command_to_continue(trainer: Any) -> str | None:
    """The command that continues from this run's last checkpoint, or the one it started from; None without any."""
    written = [c.written for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint) and c.written]
    checkpoint = next((path for path in (*written, trainer.ckpt_path) if path and Path(path).is_file()), None)
    if checkpoint is None:
        return None
    return same_command(["fit", "--config", str(RunFolder(run_folder(trainer)).config)], Path(checkpoint))
