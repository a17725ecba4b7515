"""What was measured: one row a contender, its ratios, and the one line that says whether early exit pays.

Shapes: N samples, R rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from mebert.commands.bench.timing import Timed
from mebert.commands.bench.variants import PLAIN, USUAL, Variant

__all__ = ["Row", "results", "verdict"]

WORTH = 1.05  # below this a gain is lost in the next change of machine or load


@dataclass
class Row:
    """One contender's figures.

    Attributes:
        name: Baseline or engine.
        precision: Of its weights.
        batch_size: Most rows of a batch.
        policy: Its indicator; empty where nothing leaves early.
        target: Wanted speed-up by FLOPs, or None.
        samples: N.
        seconds: Of each round, for all samples, (R,).
        p50: Median latency in ms: from handing over a batch to having a sample's answer, over all samples and rounds.
        p95: Its 95th percentile.
        p99: Its 99th percentile.
        samples_per_second: N over the median of `seconds`.
        mean_layers: Mean number of layers run.
        speedup_flops: The plain model's FLOPs over those spent, heads and policy included, at true lengths.
        speedup_wall: Seconds of its base over its own, the median over rounds. The base of an engine is `plain`, that
            of `plain` and of `HF k layers` is the whole Hugging Face model in batches sorted by length; same precision
            and batch size. None for the other baselines.
        wall_per_flops: `speedup_wall` / `speedup_flops`: 1 where all the arithmetic saved is time saved.
        versus_usual: Seconds of the usual way (float32, input order, padded to the longest of a batch) over its own:
            the median over rounds.
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
    versus_usual: float | None

    @property
    def leaves_early(self) -> bool:
        return self.target is not None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON and CSV."""
        return dict(vars(self))


def ratio(base: Sequence[float], own: Sequence[float]) -> float:
    """Median over rounds of seconds of the base over own seconds; both ran in every round."""
    return median(b / o for b, o in zip(base, own, strict=True))


def results(variants: Sequence[Variant], timed: Sequence[Timed]) -> list[Row]:
    """The rows of all contenders of one batch size."""
    by_name = {(c.name, c.precision): t for c, t in zip(variants, timed, strict=True)}
    usual = by_name.get((USUAL, "float32"))
    found = []
    for contender, times in zip(variants, timed, strict=True):
        exits = times.exits
        spent = contender.flops.gather(0, exits.unsqueeze(0)).sum()
        plain = next(c for c in variants if c.name == PLAIN).flops[0].sum()
        base = None if contender.base is None else by_name.get((contender.base, contender.precision))
        wall = None if base is None else ratio(base.seconds, times.seconds)
        by_flops = float(plain / spent)
        p50, p95, p99 = (float(1000 * np.percentile(times.latencies, q)) for q in (50, 95, 99))
        found.append(
            Row(
                name=contender.name,
                precision=contender.precision,
                batch_size=contender.batch_size,
                policy=contender.policy,
                target=contender.target,
                samples=len(exits),
                seconds=times.seconds,
                p50=p50,
                p95=p95,
                p99=p99,
                samples_per_second=len(exits) / median(times.seconds),
                mean_layers=float(contender.layers[exits].to(torch.float64).mean()),
                speedup_flops=by_flops,
                speedup_wall=wall,
                wall_per_flops=None if wall is None else wall / by_flops,
                versus_usual=None if usual is None else ratio(usual.seconds, times.seconds),
            )
        )
    return found


def verdict(rows: Sequence[Row]) -> str:
    """One line: does early exit pay here?

    For each batch size, the fastest engine at the smallest speed-up asked for (the one that is likeliest to keep the
    accuracy) against the fastest whole model without exits, each in the precision that suits it best.
    """
    early = [row for row in rows if row.leaves_early]
    if not early:
        return "No engine leaves early here: nothing to say about early exit."
    target = min(row.target for row in early if row.target is not None)
    gains: list[str] = []
    losses: list[str] = []
    for size in sorted({row.batch_size for row in rows}):
        engine = max((r for r in early if r.batch_size == size and r.target == target), key=_rate, default=None)
        whole = [r for r in rows if r.batch_size == size and r.target is None and not _is_cut(r)]
        if engine is None or not whole:
            continue
        rival = max(whole, key=_rate)
        gain = ratio(rival.seconds, engine.seconds)
        text = (
            f"at batch {size} {engine.name} in {engine.precision} gives {gain:.2f}x the samples/s of the fastest whole "
            f"model ({rival.name}, {rival.precision}) with {engine.speedup_flops:.2f}x fewer FLOPs"
        )
        (gains if gain >= WORTH else losses).append(text)
    if gains and losses:
        return f"Early exit pays here in part: {'; '.join(gains)}. It does not {'; nor '.join(losses)}."
    if gains:
        return f"Early exit pays here: {'; '.join(gains)}."
    return f"Early exit does not pay here: {'; '.join(losses)}."


def _rate(row: Row) -> float:
    return row.samples_per_second


def _is_cut(row: Row) -> bool:
    return row.name.startswith("HF ") and "layer" in row.name
