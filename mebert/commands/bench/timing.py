"""Timing things against each other: in one process, in turn, round after round.

Shapes: N samples, R rounds. Nothing here knows of models: what is timed takes batches and returns rows that are done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from mebert.commands.bench.texts import Batch
from mebert.inference import Finished

__all__ = ["Pass", "Timed", "estimate_seconds", "run_pass", "time_in_turn", "timed_pass", "wait_for"]


class Runs(Protocol):
    """What is timed: an engine, or a model behind the same two methods."""

    def feed(self, inputs: dict[str, torch.Tensor], rows: torch.Tensor) -> Finished:
        """Take a batch; return rows that are done, of this batch or of earlier ones."""

    def flush(self) -> Finished:
        """Return all rows that wait."""


@dataclass
class Pass:
    """One run over all batches.

    Attributes:
        seconds: From the first batch to the last answer.
        latencies: Seconds from handing over the batch with a sample to having the sample's answer, (N,).
        exits: 0-based exit of each sample, (N,) int64.
    """

    seconds: float
    latencies: np.ndarray
    exits: torch.Tensor


@dataclass
class Timed:
    """All runs of one contender.

    Attributes:
        seconds: Of each round, (R,).
        latencies: Of all samples in all rounds, (R N,) seconds.
        exits: Of the last round, (N,) int64.
    """

    seconds: list[float] = field(default_factory=list)
    latencies: np.ndarray = field(default_factory=lambda: np.zeros(0))
    exits: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


def wait_for(device: torch.device) -> None:
    """Return when an accelerator has done what it was given; a CPU is always done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def timed_pass(make: Callable[[], Runs], batches: Sequence[Batch], device: torch.device) -> Pass:
    """Run all batches as a user would: for throughput without waiting in between, for latency waiting for each.

    A CPU never leaves work behind, so that one run serves both.
    """
    result = run_pass(make(), batches, device)
    if device.type != "cpu":
        result.seconds = run_pass(make(), batches, device, each=False).seconds
    return result


def run_pass(runs: Runs, batches: Sequence[Batch], device: torch.device, each: bool = True) -> Pass:
    """Run all batches once.

    Args:
        runs: Nothing must wait in it.
        batches: Row numbers 0..N-1, each once.
        device: Waited for at the end.
        each: Wait for the device after each batch, too: only so are latencies those of a user who waits for the
            answer.
    """
    samples = sum(len(rows) for _, rows in batches)
    given, taken = np.zeros(samples), np.zeros(samples)
    done: list[tuple[Finished, float]] = []
    wait_for(device)
    start = time.perf_counter()
    for inputs, rows in batches:
        given[rows.numpy()] = time.perf_counter()
        finished = runs.feed(inputs, rows)
        if each:
            wait_for(device)
        done.append((finished, time.perf_counter()))
    finished = runs.flush()
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
    passes: Sequence[Callable[[], Pass]], rounds: int, tick: Callable[[], None] = lambda: None
) -> list[Timed]:
    """Run everything once a round, each round beginning with the next one, so that a slow moment strikes all alike.

    Args:
        passes: What is timed; warmed up already.
        rounds: R.
        tick: Called after every pass.

    Returns:
        In the order of `passes`.
    """
    found = [Timed() for _ in passes]
    latencies: list[list[np.ndarray]] = [[] for _ in passes]
    for round_index in range(rounds):
        for turn in range(len(passes)):
            who = (turn + round_index * max(1, len(passes) // rounds)) % len(passes)
            result = passes[who]()
            found[who].seconds.append(result.seconds)
            found[who].exits = result.exits
            latencies[who].append(result.latencies)
            tick()
    for timed, parts in zip(found, latencies, strict=True):
        timed.latencies = np.concatenate(parts)
    return found


def estimate_seconds(runs: Runs, batches: Sequence[Batch], device: torch.device) -> float:
    """Warm up on the largest batch (kernels are chosen, caches filled); returns how long all batches take, about."""
    largest = max(batches, key=lambda batch: batch[0]["input_ids"].numel())
    only = [(largest[0], torch.arange(len(largest[1])))]
    run_pass(runs, only, device)
    seconds = run_pass(runs, only, device).seconds
    tokens = [inputs["input_ids"].numel() for inputs, _ in batches]
    # A batch of few tokens costs more than its share of tokens: half of the time goes by batches.
    share = sum(tokens) / max(tokens)
    return seconds * (share + len(batches)) / 2
