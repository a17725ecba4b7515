"""Timing several things against each other: in one process, in turn, round after round.

Shapes: N samples, R rounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from mebert.commands.bench.texts import Batch
from mebert.inference import Engine, Finished
from mebert.report.wall_clock import wait_for

Result = TypeVar("Result")

REST = 0.02  # seconds after which the threads of another library no longer wait for work by spinning
WARM = 1.0  # seconds of a pass to which its first run's own work (kernels, caches) adds little
SMALLEST_SHARE = 0.02
PLANNED = 0.75  # of the time: an estimate may be too low, and the picture takes a second


@dataclass
class Pass:
    """One run over all batches.

    Attributes:
        seconds: From the first batch to the last result.
        latencies: Seconds from feeding the batch with a sample to the sample's result, (N,).
        exits: 0-based exit of each sample, (N,) int64.
    """

    seconds: float
    latencies: np.ndarray
    exits: torch.Tensor


def timed_pass(make: Callable[[], Engine], batches: Sequence[Batch], device: torch.device) -> Pass:
    """Run all batches; on an accelerator twice: for latency waiting after each batch, for throughput at the end."""
    time.sleep(REST)
    result = run_pass(make(), batches, device)
    if device.type != "cpu":
        result.seconds = run_pass(make(), batches, device, each=False).seconds
    return result


def run_pass(engine: Engine, batches: Sequence[Batch], device: torch.device, each: bool = True) -> Pass:
    """Run all batches (rows 0..N-1, each once), waiting for the device at the end and, with `each`, after each."""
    samples = sum(len(rows) for _, rows in batches)
    given, taken = np.zeros(samples), np.zeros(samples)
    done: list[tuple[Finished, float]] = []
    wait_for(device)
    start = time.perf_counter()
    for inputs, rows in batches:
        given[rows.numpy()] = time.perf_counter()
        finished = engine.feed(inputs, rows)
        if each:
            wait_for(device)
        done.append((finished, time.perf_counter()))
    finished = engine.flush()
    wait_for(device)
    end = time.perf_counter()
    done.append((finished, end))
    exits = torch.full((samples,), -1)
    for part, at in done:  # after the clock has stopped: reading row numbers takes time
        numbers = part.rows.cpu()
        taken[numbers.numpy()] = at
        exits[numbers] = part.exits.cpu()
    assert bool((exits >= 0).all()), "an engine has lost samples"
    return Pass(end - start, taken - given, exits)


def time_in_turn(
    passes: Sequence[Callable[[], Result]],
    rounds: int,
    tick: Callable[[], None] = lambda: None,
    until: float = math.inf,
) -> list[list[Result]]:
    """The R runs of each, one per round; each round starts with another one, so that no one is always first.

    After the first, no round begins that would end after `until` (seconds of `time.perf_counter`) if it took as long as
    the one before.
    """
    found: list[list[Result]] = [[] for _ in passes]
    start = took = 0.0
    for round_index in range(rounds):
        took, start = time.perf_counter() - start, time.perf_counter()
        if round_index and start + took > until:
            break
        for turn in range(len(passes)):
            who = (turn + round_index * max(1, len(passes) // rounds)) % len(passes)
            found[who].append(passes[who]())
            tick()
    return found


def estimate_seconds(engine: Engine, batches: Sequence[Batch], device: torch.device) -> float:
    """Warm up on the largest batch (kernels are chosen, caches filled); returns an estimate for all batches."""
    largest = max(batches, key=lambda batch: batch[0]["input_ids"].numel())
    only = [(largest[0], torch.arange(len(largest[1])))]
    seconds = run_pass(engine, only, device).seconds
    if seconds < WARM:
        seconds = run_pass(engine, only, device).seconds
    tokens = [inputs["input_ids"].numel() for inputs, _ in batches]
    # A batch of few tokens costs more than its share of tokens: half of the time is counted by batches.
    return seconds * (sum(tokens) / max(tokens) + len(batches)) / 2


def within_budget(once: float, rounds: int, seconds: float) -> tuple[int, float]:
    """How many rounds of `once` seconds fit, two at least, and which share of the texts where even these do not.

    >>> within_budget(4.0, 3, 60.0), within_budget(4.0, 3, 12.0), within_budget(4.0, 3, 4.0)
    ((3, 1.0), (2, 1.0), (2, 0.375))
    """
    seconds *= PLANNED
    fitting = int(min(rounds, max(2.0, seconds / once)))
    return fitting, min(1.0, max(SMALLEST_SHARE, seconds / (once * fitting)))
