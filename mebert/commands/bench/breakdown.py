"""Where the time of an engine goes: embeddings, layers, exit heads, policy, and the rest.

Measured in separate runs, with a clock around each part, which itself takes time: shares, not speeds.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from mebert.commands.bench.simulated import SimulatedExits
from mebert.commands.bench.timing import run_pass
from mebert.commands.bench.variants import Variant
from mebert.inference import PrecisionName
from mebert.models import MultiExitModel
from mebert.policies import ExitPolicy
from mebert.report.wall_clock import wait_for

RUNS = 3  # the fastest one counts


@dataclass
class Shares:
    """Shares of an engine's time, summing to 1.

    `heads` has the pooling, `rest` the regrouping of samples, synchronisation and the simulation of exits.
    """

    engine: str
    precision: str
    batch_size: int
    policy: str
    target: float | None
    embeddings: float
    layers: float
    heads: float
    deciding: float
    rest: float

    @property
    def exits_per_layers(self) -> float:
        """Time of heads and policy over that of the layers."""
        return (self.heads + self.deciding) / self.layers


@contextmanager
def _clocked(model: MultiExitModel, policy: ExitPolicy, device: torch.device) -> Iterator[dict[str, float]]:
    """Put a clock around the parts of a model and its policy, on the objects, not their classes; yields the seconds."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            wait_for(device)
            start = time.perf_counter()
            result = function(*args, **kwargs)
            wait_for(device)
            seconds[part] += time.perf_counter() - start
            return result

        return call

    parts: list[tuple[Any, str, str]] = [
        (model.adapter, "start", "embeddings"),
        (model.adapter, "advance", "layers"),
        (model.adapter, "pool", "heads"),  # includes the head's own pooling
        (policy.indicator if isinstance(policy, SimulatedExits) else policy, "decide", "deciding"),
        *((head, "classify", "heads") for head in model.exits),
    ]
    for owner, name, part in parts:
        object.__setattr__(owner, name, timed(part, getattr(owner, name)))
    try:
        yield seconds
    finally:
        for owner, name, _ in parts:
            object.__delattr__(owner, name)


def shares_of(
    variants: Sequence[Variant], models: Mapping[PrecisionName, MultiExitModel], device: torch.device
) -> list[Shares]:
    """The shares of every `shrink` engine among the variants."""
    found = []
    for v in variants:
        if v.name != "shrink" or v.point is None:
            continue
        runs: list[tuple[float, dict[str, float]]] = []
        for _ in range(RUNS):
            with _clocked(models[v.precision], v.point.policy, device) as seconds:
                runs.append((run_pass(v.make(), v.batches, device).seconds, seconds))
        total, seconds = min(runs, key=lambda run: run[0])
        parts = {part: seconds[part] / total for part in ("embeddings", "layers", "heads", "deciding")}
        rest = max(0.0, 1.0 - sum(parts.values()))
        found.append(Shares(v.name, v.precision, v.batch_size, v.policy, v.target, **parts, rest=rest))
    return found
