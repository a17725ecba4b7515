"""Progress bars by rich: on a terminal, on standard error, and nothing elsewhere.

All bars share rich's global console, so that a bar inside another one is drawn below it. They are redrawn when they are
advanced: no thread runs beside what is measured.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Self

import rich
from rich import progress as bars

from mebert.runtime.terminal import bars_wanted

REFRESH_SECONDS = 0.1


def shown_by(trainer: Any) -> bool:
    """Whether a pass inside a trainer's run may show a bar: where mebert's own bar is, on the first process."""
    bar = getattr(trainer, "progress_bar_callback", None)
    return bool(trainer.is_global_zero and getattr(bar, "shares_display", False) and getattr(bar, "is_enabled", False))


def duration(seconds: float) -> str:
    """Seconds in few words.

    >>> duration(7.25), duration(75), duration(7500)
    ('7 s', '1:15 min', '2:05 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02d} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d} h"


class Progress:
    """A context with a bar that counts steps; without one unless `shown`, such as on other processes than the first."""

    def __init__(self, text: str, total: int, shown: bool = True) -> None:
        self._text, self._total = text, total
        self._shown = shown and bars_wanted()
        self._bar: bars.Progress | None = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        if self._shown:
            send_logs_to_current_stderr()
            if not rich.get_console().stderr:
                rich.reconfigure(stderr=True)
            self._bar = bars.Progress(
                bars.TextColumn("{task.description}", markup=False),
                bars.BarColumn(bar_width=30),
                bars.MofNCompleteColumn(),
                bars.TimeRemainingColumn(compact=True),
                console=rich.get_console(),
                auto_refresh=False,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),  # a file gets what is printed into it
            )
            self._bar.add_task(self._text, total=self._total)
            self._bar.start()
            self._bar.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def tick(self) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])
            if time.monotonic() - self._drawn >= REFRESH_SECONDS:
                self._drawn = time.monotonic()
                self._bar.refresh()


def rows_pass(text: str, trainer: Any, rows: int, batch_size: int) -> Progress:
    """The bar of a pass over rows of a trainer's processes together, each of which has batches of `batch_size`."""
    return Progress(text, -(-rows // (batch_size * trainer.world_size)), shown_by(trainer))


def send_logs_to_current_stderr() -> None:
    """Let log handlers, which keep the stream they were created with, write above a live bar and not into it."""
    for name in [None, *logging.root.manager.loggerDict]:
        for handler in logging.getLogger(name).handlers:
            own_stream = vars(handler).get("stream")
            if isinstance(handler, logging.StreamHandler) and own_stream in (sys.stderr, sys.__stderr__):
                handler.setStream(_CurrentStderr())


class _CurrentStderr:
    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)
