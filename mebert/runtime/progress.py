"""Progress bars: on a terminal, one at a time, and nothing elsewhere.

Bars that are opened while another is shown (validation in training, a pass over the rows in an epoch) take its place
until they are done. They are drawn on standard error when they are told of progress: there is no thread that would
disturb what is measured.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

__all__ = ["Progress", "bars_wanted", "duration", "rows_pass", "shown_by"]

REFRESH_SECONDS = 0.1


def bars_wanted() -> bool:
    """Whether standard error is a terminal that a person looks at: no file, no pipe, no CI, no dumb terminal."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return sys.stderr.isatty() and not in_ci and os.environ.get("TERM") != "dumb"


def shown_by(trainer: Any) -> bool:
    """Whether a pass inside of a trainer's run may show a bar: where mebert's own bar is, on the first process."""
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
    """A bar that counts steps; a context.

    Args:
        text: Stands before the bar.
        total: Number of steps; None or infinite where nobody knows.
        shown: False for no bar, such as on other processes than the first.
        timed: Whether the time left is estimated from the steps done; False where the caller knows better.
    """

    def __init__(self, text: str, total: float | None, shown: bool = True, timed: bool = True) -> None:
        self._text = text
        self._total = None if total is None or total == float("inf") else total
        self._shown = shown and bars_wanted()
        self._timed = timed
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._shown:
            self._task = _DISPLAY.open(self._text, self._total, self._timed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away; nothing is done a second time."""
        if self._task is not None:
            _DISPLAY.close(self._task)
            self._task = None

    def tick(self, detail: Callable[[], str] | None = None) -> None:
        """One step done.

        Args:
            detail: What stands behind the bar; asked only when the bar is drawn.
        """
        if self._task is not None:
            _DISPLAY.advance(self._task, detail)

    def update(self, text: str, total: float | None, completed: float, detail: str = "") -> None:
        """Another text, another number of steps, steps done elsewhere, other words behind the bar."""
        if self._task is not None:
            total = None if total == float("inf") else total
            _DISPLAY.change(self._task, description=text, total=total, completed=completed, detail=detail)

    def say(self, line: str) -> None:
        """A line above the bar, which stays when the bar goes; nothing where there is no bar."""
        if self._task is not None:
            _DISPLAY.say(self._task, line)


def rows_pass(text: str, trainer: Any, rows: int, batch_size: int) -> Progress:
    """The bar of a pass over rows that a trainer's processes share (`mebert.data.scoring.score_split`).

    Args:
        text: Stands before the bar.
        trainer: Says whether a bar may be shown, and how many processes there are.
        rows: Of all processes together.
        batch_size: Rows a batch and process.
    """
    return Progress(text, -(-rows // (batch_size * trainer.world_size)), shown_by(trainer))


class _TimeLeft(TimeRemainingColumn):
    def render(self, task: Task) -> Text:
        known = task.fields["timed"] and task.speed and task.total
        return super().render(task) + Text(" left", "progress.remaining") if known else Text("")


class _Display:
    """The one live display of this process."""

    def __init__(self) -> None:
        self._rich: RichProgress | None = None
        self._open: list[Any] = []
        self._drawn = 0.0
        self._moved: list[tuple[logging.StreamHandler[Any], Any]] = []

    def open(self, text: str, total: float | None, timed: bool) -> Any:
        if self._rich is None:
            self._rich = self._start()
        for task in self._open:
            self._rich.update(task, visible=False)
        task = self._rich.add_task(text, total=total, detail="", timed=timed)
        self._open.append(task)
        self._draw()
        return task

    def close(self, task: Any) -> None:
        assert self._rich is not None
        self._open.remove(task)
        self._rich.remove_task(task)
        if self._open:
            self._rich.update(self._open[-1], visible=True)
            self._draw()
        else:
            self._stop(self._rich)
            self._rich = None

    def advance(self, task: Any, detail: Callable[[], str] | None) -> None:
        assert self._rich is not None
        self._rich.advance(task)
        if time.monotonic() - self._drawn >= REFRESH_SECONDS:
            if detail is not None:
                self._rich.update(task, detail=detail())
            self._draw()

    def change(self, task: Any, **values: Any) -> None:
        assert self._rich is not None
        self._rich.update(task, **values)
        self._draw()

    def say(self, task: Any, line: str) -> None:
        assert self._rich is not None
        self._rich.update(task, detail="")  # those of the line are newer
        self._rich.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _draw(self) -> None:
        assert self._rich is not None
        self._rich.refresh()
        self._drawn = time.monotonic()

    def _start(self) -> RichProgress:
        console = Console(file=sys.stderr)
        whole = Column(no_wrap=True)
        made = RichProgress(
            TextColumn("{task.description}", table_column=whole),
            BarColumn(bar_width=max(8, min(30, console.width - 68))),
            MofNCompleteColumn(table_column=whole),
            _TimeLeft(compact=True, table_column=whole),
            TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=console,
            transient=True,
            auto_refresh=False,
            # What is printed goes above the bar; where standard output is a file, into that file.
            redirect_stdout=sys.stdout.isatty(),
        )
        before = {sys.stderr, sys.stdout}
        made.start()
        # Log handlers hold the stream that they were made with, and would write into the bar.
        names = [None, *logging.root.manager.loggerDict]
        for handler in {h for name in names for h in logging.getLogger(name).handlers}:
            if isinstance(handler, logging.StreamHandler) and handler.stream in before:
                self._moved.append((handler, handler.setStream(sys.stderr)))
        return made

    def _stop(self, rich: RichProgress) -> None:
        for handler, stream in self._moved:
            handler.setStream(stream)
        self._moved = []
        rich.stop()


_DISPLAY = _Display()
