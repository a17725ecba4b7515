"""Figures from timed runs: one row per variant, and ratios.

Shapes: N samples, R rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from mebert.commands.bench.simulated import flops_speedup
from mebert.commands.bench.timing import Pass
from mebert.commands.bench.variants import PLAIN, UNSORTED, Variant


@dataclass
class Row:
    """The figures of one variant.

    Attributes:
        target: Wanted speed-up by FLOPs; of the default operating point what it gives on these texts; None: all layers.
        seconds: Of each round, for all samples, (R,).
        p50: Median latency in ms (and below its 95th and 99th percentile), from feeding a batch to a sample's result.
        samples_per_second: N over the median of `seconds`.
        speedup_flops: The plain model's FLOPs over those spent, heads and policy included, at true lengths.
        speedup_wall: Seconds of its base (`Variant.base`) over its own, the median over rounds; None without a base.
        wall_per_flops: `speedup_wall` / `speedup_flops`: 1 where all saved arithmetic is saved time.
        versus_unsorted: The same as `speedup_wall`, relative to Hugging Face's model in input order and the first of
            the precisions (float32 unless that is not measured).
    """

    name: str
    precision: str
    batch_size: int
    policy: str
    target: float | None
    samples: int
    seconds: list[float]
    p50: float
    p95: float
    p99: float
    samples_per_second: float
    mean_layers: float
    speedup_flops: float
    speedup_wall: float | None
    wall_per_flops: float | None
    versus_unsorted: float | None


def ratio(base: Sequence[float], own: Sequence[float]) -> float:
    """Median over rounds of seconds of the base over own seconds; both ran in every round."""
    return median(b / o for b, o in zip(base, own, strict=True))


def results(variants: Sequence[Variant], timed: Sequence[Sequence[Pass]]) -> list[Row]:
    """The rows of all variants of one batch size, from the R runs of each."""
    seconds_of = {(v.name, v.precision): [run.seconds for run in runs] for v, runs in zip(variants, timed, strict=True)}
    unsorted = next((seconds for (name, _), seconds in seconds_of.items() if name == UNSORTED), None)
    plain = next(v for v in variants if v.name == PLAIN).flops[0]
    found = []
    for v, runs in zip(variants, timed, strict=True):
        exits, seconds = runs[-1].exits, [run.seconds for run in runs]
        latencies = np.concatenate([run.latencies for run in runs])
        p50, p95, p99 = (float(1000 * np.percentile(latencies, q)) for q in (50, 95, 99))
        by_flops, base = flops_speedup(exits, v.flops, plain), seconds_of.get((v.base or "", v.precision))
        wall = None if base is None else ratio(base, seconds)
        found.append(
            Row(
                name=v.name,
                precision=v.precision,
                batch_size=v.batch_size,
                policy=v.policy,
                target=v.target,
                samples=len(exits),
                seconds=seconds,
                p50=p50,
                p95=p95,
                p99=p99,
                samples_per_second=len(exits) / median(seconds),
                mean_layers=float(v.layers[exits].to(torch.float64).mean()),
                speedup_flops=by_flops,
                speedup_wall=wall,
                wall_per_flops=None if wall is None else wall / by_flops,
                versus_unsorted=None if unsorted is None else ratio(unsorted, seconds),
            )
        )
    return found
