"""Where the time of an engine goes: layers, exit heads and policy, and the rest.

Measured in runs of their own, by a clock around each part: the clock itself takes time, so that these runs say shares
and not speeds.
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
from mebert.commands.bench.timing import run_pass, wait_for
from mebert.commands.bench.variants import Variant
from mebert.inference import PrecisionName
from mebert.models import MultiExitModel
from mebert.policies import ExitPolicy

__all__ = ["RUNS", "Shares", "share_of_time", "shares_of"]

RUNS = 3  # of which the one that was disturbed least counts


@dataclass
class Shares:
    """Shares of an engine's time, summing to 1.

    Attributes:
        engine: Its name.
        precision: Of the weights.
        batch_size: Most rows of a batch.
        policy: Its indicator.
        target: Wanted speed-up by FLOPs.
        embeddings: Embeddings and the layers' mask.
        layers: The encoder's layers.
        heads: Exit heads, pooling included.
        deciding: The policy.
        rest: Dropping and regrouping samples, synchronisation; what the simulation of exits costs.
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


class _Clock:
    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            wait_for(self.device)
            start = time.perf_counter()
            result = function(*args, **kwargs)
            wait_for(self.device)
            self.seconds[part] += time.perf_counter() - start
            return result

        return timed


@contextmanager
def _clocked(model: MultiExitModel, policy: ExitPolicy, clock: _Clock) -> Iterator[None]:
    """Put the clock around the parts of a model and its policy, on the objects and not on their classes."""
    decides = policy.indicator if isinstance(policy, SimulatedExits) else policy
    parts: list[tuple[Any, str, str]] = [
        (model.adapter, "start", "embeddings"),
        (model.adapter, "advance", "layers"),
        (model.adapter, "pool", "heads"),  # with the head's own pooling, where it is asked for that
        (decides, "decide", "deciding"),
    ]
    parts += [(head, "classify", "heads") for head in model.exits]
    for owner, name, part in parts:
        object.__setattr__(owner, name, clock.around(part, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, _ in parts:
            object.__delattr__(owner, name)


def share_of_time(contender: Variant, model: MultiExitModel, policy: ExitPolicy, device: torch.device) -> Shares:
    """Run a contender with a clock around its parts.

    Args:
        contender: An engine.
        model: The prepared model that it runs.
        policy: The very object that it asks.
        device: Where it runs.
    """
    found: list[tuple[float, dict[str, float]]] = []
    for _ in range(RUNS):
        clock = _Clock(device)
        with _clocked(model, policy, clock):
            found.append((run_pass(contender.make(), contender.batches, device).seconds, clock.seconds))
    total, seconds = min(found, key=lambda run: run[0])
    named = {part: seconds.get(part, 0.0) / total for part in ("embeddings", "layers", "heads", "deciding")}
    return Shares(
        contender.name,
        contender.precision,
        contender.batch_size,
        contender.policy,
        contender.target,
        **named,
        rest=max(0.0, 1.0 - sum(named.values())),
    )


def shares_of(
    variants: Sequence[Variant],
    models: Mapping[PrecisionName, MultiExitModel],
    policies: Mapping[tuple[PrecisionName, str, float], ExitPolicy],
    device: torch.device,
) -> list[Shares]:
    """The shares of every `shrink` engine among the contenders."""
    found = []
    for c in variants:
        if c.name == "shrink" and c.target is not None:
            policy = policies[c.precision, c.policy, c.target]
            found.append(share_of_time(c, models[c.precision], policy, device))
    return found
