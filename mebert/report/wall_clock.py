"""Wall-clock speed-up: the early-exit engine against the plain model, interleaved in one process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mebert.inference import PrecisionName, prepare_model, prepare_policy, run_shrink
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.policies import ExitPolicy

Batch = dict[str, Tensor]

POINT_SECONDS = 1.0
"""Seconds that are enough for one operating point, over all rounds."""


@dataclass(frozen=True)
class Timing:
    """The plain model's seconds over those of one policy: over all rounds, and the least and the most of a round."""

    speedup: float
    low: float
    high: float


@torch.inference_mode()
def measure_speedups(
    model: MultiExitModel,
    policies: Sequence[ExitPolicy],
    batches: Sequence[Batch],
    precision: PrecisionName = "float32",
    rounds: int = 5,
    budget: float = 30.0,
) -> tuple[list[Timing], int]:
    """Seconds of the plain model against those of the `shrink` engine, for each policy; and the number of samples.

    Both run the copy of the model that `predict` runs (`prepare_model`), so that only the exits make the difference.
    Every batch is run by the plain model (all layers, last head alone) and by each policy before the next batch, in
    rotating order, so that a slow moment of the machine affects all alike. A run of each on the largest batch warms up
    and is not counted. Padding rows (index -1) are left out.

    Time is spent until each policy has run for about a second, or all batches in every round, within about `budget`
    seconds. Where that is less, each round has other texts (`deal`), so that what they differ by shows in the rounds.
    """
    device = next(model.parameters()).device
    fast = prepare_model(model, precision)
    real = [{name: x[batch["index"] >= 0].to(device) for name, x in model_inputs(batch).items()} for batch in batches]
    inputs = [batch for batch in real if len(batch["input_ids"])]
    bound = [prepare_policy(policy, fast) for policy in policies]
    runners: list[Callable[[Batch], object]] = [lambda batch: fast.last_exit(**batch)]
    runners += [lambda batch, p=policy: run_shrink(fast, p, batch) for policy in bound]  # type: ignore[misc]
    by_size = sorted(inputs, key=lambda batch: batch["input_ids"].numel())
    for runner in runners:  # the first runs choose kernels and fill caches
        runner(by_size[-1])
    once = max(sum(_seconds(runner, by_size[len(by_size) // 2], device) for runner in runners), 1e-6)
    turns = min(math.ceil(POINT_SECONDS * len(runners) / once), int(budget / once))
    dealt = deal(len(inputs), rounds, turns)
    seconds = torch.zeros(rounds, len(runners), dtype=torch.float64)
    for turn, (number, round_index) in enumerate(dealt):
        for place in range(len(runners)):
            which = (place + turn + round_index) % len(runners)
            seconds[round_index, which] += _seconds(runners[which], inputs[number], device)
    by_round = seconds[:, :1] / seconds[:, 1:]
    total = seconds.sum(0)
    found = zip(total[0] / total[1:], by_round.amin(0), by_round.amax(0), strict=True)
    samples = sum(len(inputs[number]["input_ids"]) for number in {number for number, _ in dealt})
    return [Timing(*map(float, one)) for one in found], samples


def deal(batches: int, rounds: int, turns: int) -> list[tuple[int, int]]:
    """Which batch is run in which round, about `turns` pairs; each round has at least one, and at most all once.

    Batches come sorted by length; each round gets some from the whole range, and the next round those beside them.

    >>> deal(8, 2, 4)
    [(0, 0), (4, 0), (2, 1), (6, 1)]
    >>> deal(2, 2, 9)
    [(0, 0), (1, 0), (0, 1), (1, 1)]
    """
    each = min(batches, max(1, turns // rounds))
    return [((j * rounds + r) * batches // (each * rounds), r) for r in range(rounds) for j in range(each)]


def told_apart(timings: Sequence[Timing], layers: Sequence[float]) -> list[bool]:
    """Whether the rounds of each of a policy's points differ by less than the speed-ups that they are to tell apart.

    Compared are the plain model (1) and the policy's other points, where speed-ups by `layers` differ by 5 % and more.
    """
    at = [(1.0, 1.0), *((timing.speedup, speed) for timing, speed in zip(timings, layers, strict=True))]
    found = []
    for timing, speed in zip(timings, layers, strict=True):
        apart = [abs(timing.speedup - other) for other, by in at if abs(math.log(by / speed)) > math.log(1.05)]
        found.append(timing.high - timing.low <= min(apart, default=math.inf))
    return found


def _seconds(runner: Callable[[Batch], object], batch: Batch, device: torch.device) -> float:
    wait_for(device)
    start = time.perf_counter()
    runner(batch)
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Wait until an accelerator has finished its work; a CPU always has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
