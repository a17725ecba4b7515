"""The faster of two backends for a batch: PyTorch's layers, or the model's export beside it, timed as they are opened.

Which one that is depends on the batch, the threads and the machine (docs/speed.md).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

from mebert.onnx.backend import OnnxBackend

Torch = TypeVar("Torch", bound=Callable[..., Any])
"""An `EarlyExitClassifier`."""

SIZES = (1, 8, 32)  # rows of a batch that are timed
SECONDS = 0.8  # for all of it
WORDS = 16  # of a text that is timed
TORCH_ALONE = ("policy", "tokens_per_batch", "progress")  # settings of a call

Times = Mapping[int, Sequence[float]]
"""Rows of a batch to the seconds that each backend took for it."""


def fastest(times: Times, batch_size: int) -> int:
    """Which one was the fastest at the largest measured batch that is no larger than this one, else at the smallest.

    >>> fastest({1: (2.0, 1.0), 8: (3.0, 4.0)}, 7), fastest({1: (2.0, 1.0), 8: (3.0, 4.0)}, 32)
    (1, 0)
    """
    size = max((size for size in times if size <= batch_size), default=min(times))
    return min(range(len(times[size])), key=times[size].__getitem__)


def measure(
    backends: Sequence[Callable[[int], object]],
    sizes: Sequence[int] = SIZES,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, list[float]]:
    """Seconds of each backend by rows of a batch, in turn; no size is begun that may end after `seconds`.

    Args:
        backends: Each runs a batch of so many rows.
        sizes: In ascending order; before the first, each backend runs once to warm up.
        seconds: For all sizes.
        clock: In seconds.
    """
    start, found, last = clock(), dict[int, list[float]](), 0.0
    for size in sizes:
        expected = last * size / max(found, default=size)
        if found and clock() - start + expected > seconds:
            break
        runs: list[list[float]] = [[] for _ in backends]
        for _ in range(1 if found else 3):
            for own, run in zip(runs, backends, strict=True):
                begin = clock()
                run(size)
                own.append(clock() - begin)
        found[size] = [min(own) for own in runs]
        last = sum(found[size])
    return found


def in_words(taken: Mapping[int, tuple[str, str]]) -> str:
    """Which backend is taken for which batch.

    >>> in_words({1: ("onnx", "float32"), 8: ("torch", "bfloat16"), 32: ("torch", "bfloat16")})
    'onnx float32 at batch 1, torch bfloat16 at 8 and 32'
    """
    parts = list[str]()
    for (backend, precision), group in groupby(taken, key=taken.__getitem__):
        *others, last = map(str, group)
        sizes = f"{', '.join(others)} and {last}" if others else last
        parts.append(f"{backend} {precision} at {'' if parts else 'batch '}{sizes}")
    return ", ".join(parts)


class AutoBackend(Generic[Torch]):
    """A model in PyTorch and its export: each call goes to the one that was faster at the size of its batches.

    Names and operating points are those of the model in PyTorch, as is all that the export does not have (other
    policies and engines).

    Args:
        torch: The classifier.
        onnx: Its export.
    """

    backend: Final = "auto"

    def __init__(self, torch: Torch, onnx: OnnxBackend) -> None:
        self.torch, self.onnx = torch, onnx
        words = ["a"] * WORDS
        half = " ".join(words[: WORDS // 2])
        text: Any = " ".join(words) if onnx.num_texts != 2 else (half, half)

        def run(backend: Callable[..., Any], size: int) -> None:
            backend([text] * size, batch_size=size, speedup=1)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these words may be none of the model's language
            self.times = measure([partial(run, torch), partial(run, onnx)])

    def for_batch(self, batch_size: int) -> Torch | OnnxBackend:
        """The backend that is faster in batches of so many texts."""
        return self.onnx if fastest(self.times, batch_size) else self.torch

    @property
    def taken(self) -> dict[int, tuple[str, str]]:
        """Rows of a batch to the backend that is taken from there on, and its precision."""
        chosen: dict[int, Any] = {size: self.for_batch(size) for size in self.times}
        return {size: (one.backend, one.precision) for size, one in chosen.items()}

    @property
    def precision(self) -> str:
        """Of the backends that are taken."""
        return " and ".join(dict.fromkeys(precision for _, precision in self.taken.values()))

    def __str__(self) -> str:
        return in_words(self.taken)

    def __call__(self, texts: Any, *, batch_size: int | None = None, engine: Any = "auto", **settings: Any) -> Any:
        """Classify; arguments as of `EarlyExitClassifier`."""
        single = isinstance(texts, str | tuple)
        rows = 1 if single else len(texts) if isinstance(texts, Sequence) else SIZES[-1]
        most = SIZES[-1] if batch_size is None else batch_size
        chosen: Callable[..., Any] = self.for_batch(max(1, min(rows, most)))
        if engine not in ("auto", "shrink") or any(settings.get(name) is not None for name in TORCH_ALONE):
            chosen = self.torch
        if chosen is self.onnx:
            settings = {name: value for name, value in settings.items() if name not in TORCH_ALONE}
        if batch_size is not None:  # each backend has its own default
            settings["batch_size"] = batch_size
        return chosen(texts, engine=engine, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.torch, name)
