"""A run ends with the process that started it, however that ended.

The parent holds one end of a pipe, and the run has the other as its standard input, which ends when the parent does
(also by kill -9). Processes that the run starts itself (DDP) inherit it.
"""

from __future__ import annotations

import os
import signal
import threading
import time

WATCH_STDIN = "MEBERT_WATCH_STDIN"  # set in the environment of a process that ends when its standard input does
GRACE_SECONDS = 30.0  # for the last checkpoint, between SIGTERM and SIGKILL


def end_with_parent() -> None:
    """Stop this process when its standard input ends, if `WATCH_STDIN` is set."""
    if os.environ.get(WATCH_STDIN):
        threading.Thread(target=_stop_at_end_of_input, daemon=True).start()


def _stop_at_end_of_input() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
