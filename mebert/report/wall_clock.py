"""Wall-clock speed-up: the early-exit engine against the plain model, in turn, in one process.

Shapes: B batch, S tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mebert.inference import PrecisionName, prepare_model, prepare_policy, run_shrink
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.policies import ExitPolicy

__all__ = ["measure_speedups"]

Batch = dict[str, Tensor]

# Short runs are noisy: small models go round more often, up to a point.
ENOUGH_SECONDS = 4.0
MOST_ROUNDS = 20


@torch.inference_mode()
def measure_speedups(
    model: MultiExitModel,
    policies: Sequence[ExitPolicy],
    batches: Sequence[Batch],
    precision: PrecisionName = "float32",
    rounds: int = 3,
    budget: float = 30.0,
) -> tuple[list[float], int, int]:
    """Seconds of the plain model over seconds of the `shrink` engine, summed over all batches and rounds.

    Both run the copy of the model that `predict` runs (`prepare_model`), so that their ratio is the exits' doing alone.

    Every batch is run by the plain model (all layers, last head alone) and by each policy in turn before the
    next batch comes, and who goes first rotates, so that a slow moment of the machine strikes all alike. One
    run of each on the largest batch warms up and is not counted.

    Args:
        model: Any.
        policies: Each at its threshold.
        batches: On the CPU or the model's device; padding rows (index -1) are left out of the measurement.
        precision: Of the layers.
        rounds: How often every batch is run, at least; more often where that takes less than a few seconds.
        budget: Seconds that the measurement may take, about; fewer batches are used where more would exceed
            it.

    Returns:
        The speed-up of each policy, the number of samples that were run, and the number of rounds.
    """
    device = next(model.parameters()).device
    fast = prepare_model(model, precision)
    inputs = [{name: x.to(device) for name, x in model_inputs(_real_rows(b)).items()} for b in batches]
    inputs = [b for b in inputs if len(b["input_ids"])]
    bound = [prepare_policy(policy, fast) for policy in policies]
    runners: list[Callable[[Batch], object]] = [lambda batch: fast.last_exit(**batch)]
    runners += [lambda batch, p=policy: run_shrink(fast, p, batch) for policy in bound]  # type: ignore[misc]
    largest = max(inputs, key=lambda batch: batch["input_ids"].numel())
    for runner in runners:  # the first runs choose kernels and fill caches
        runner(largest)
    once = sum(_seconds(runner, largest, device) for runner in runners)
    inputs = list(_spread(inputs, max(1, int(budget / (rounds * max(once, 1e-6))))))
    enough = int(min(ENOUGH_SECONDS, budget) / (max(once, 1e-6) * len(inputs)))
    rounds = max(rounds, min(enough, MOST_ROUNDS))
    seconds = [0.0] * len(runners)
    for round_index in range(rounds):
        for number, batch in enumerate(inputs):
            for turn in range(len(runners)):
                who = (turn + number + round_index) % len(runners)
                seconds[who] += _seconds(runners[who], batch, device)
    samples = sum(len(batch["input_ids"]) for batch in inputs)
    return [seconds[0] / s for s in seconds[1:]], samples, rounds


def _seconds(runner: Callable[[Batch], object], batch: Batch, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    runner(batch)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _real_rows(batch: Batch) -> Batch:
    keep = batch["index"] >= 0
    return {name: value[keep] for name, value in batch.items()}


def _spread(batches: Sequence[Batch], count: int) -> Iterator[Batch]:
    """At most `count` batches, evenly spaced, since batches are sorted by length."""
    count = min(count, len(batches))
    for i in range(count):
        yield batches[i * len(batches) // count]
