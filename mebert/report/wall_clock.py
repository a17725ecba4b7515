"""Wall-clock speed-up: the early-exit engine against the plain model, interleaved in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mebert.inference import PrecisionName, prepare_model, prepare_policy, run_shrink
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.policies import ExitPolicy

Batch = dict[str, Tensor]

# Short runs are noisy: small models take more rounds, up to a limit.
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

    Both run the copy of the model that `predict` runs (`prepare_model`), so that only the exits make the difference.
    Every batch is run by the plain model (all layers, last head alone) and by each policy before the next batch, in
    rotating order, so that a slow moment of the machine affects all alike. A run of each on the largest batch warms up
    and is not counted. Padding rows (index -1) are left out.

    Each batch is run `rounds` times, or more where that takes less than a few seconds; fewer batches, evenly spread,
    are used where more would exceed `budget` seconds. Returns the speed-up of each policy, the number of samples, and
    of rounds.
    """
    device = next(model.parameters()).device
    fast = prepare_model(model, precision)
    real = [{name: x[batch["index"] >= 0].to(device) for name, x in model_inputs(batch).items()} for batch in batches]
    inputs = [batch for batch in real if len(batch["input_ids"])]
    bound = [prepare_policy(policy, fast) for policy in policies]
    runners: list[Callable[[Batch], object]] = [lambda batch: fast.last_exit(**batch)]
    runners += [lambda batch, p=policy: run_shrink(fast, p, batch) for policy in bound]  # type: ignore[misc]
    largest = max(inputs, key=lambda batch: batch["input_ids"].numel())
    for runner in runners:  # the first runs choose kernels and fill caches
        runner(largest)
    once = max(sum(_seconds(runner, largest, device) for runner in runners), 1e-6)
    count = min(len(inputs), max(1, int(budget / (rounds * once))))
    inputs = [inputs[i * len(inputs) // count] for i in range(count)]  # batches are sorted by length
    rounds = max(rounds, min(int(min(ENOUGH_SECONDS, budget) / (once * len(inputs))), MOST_ROUNDS))
    seconds = [0.0] * len(runners)
    for round_index in range(rounds):
        for number, batch in enumerate(inputs):
            for turn in range(len(runners)):
                which = (turn + number + round_index) % len(runners)
                seconds[which] += _seconds(runners[which], batch, device)
    samples = sum(len(batch["input_ids"]) for batch in inputs)
    return [seconds[0] / s for s in seconds[1:]], samples, rounds


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
