"""What is timed: baselines, the plain model, and each engine with each policy at each speed-up.

Shapes: N samples, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mebert.calibration import ExitCosts
from mebert.commands.bench.baselines import HuggingFaceModel
from mebert.commands.bench.command import BenchSettings, Grid
from mebert.commands.bench.onnx_graphs import OnnxChain, OnnxGraphs, OnnxPrecision, OnnxWhole
from mebert.commands.bench.points import OperatingPoint, engine_flops
from mebert.commands.bench.texts import Batch, make_batches
from mebert.data.tokenised import TokenisedSplit
from mebert.inference import Engine, PrecisionName, make_engine
from mebert.models import MultiExitModel
from mebert.models.flops import flops_of_windows
from mebert.policies import FixedExit

UNSORTED, SORTED, PADDED, PLAIN = "HF", "HF sorted", "HF padded", "plain"
ONNX, CHAIN = "ONNX", "ONNX chain"
FEWEST_SAMPLES, FEWEST_BATCHES = 64, 8


@dataclass(kw_only=True)
class Variant:
    """One thing that is timed: a baseline, `plain`, or an engine by its name.

    `make` makes a fresh engine for every run. `flops` (E', N) is the cost of each sample at each exit that the variant
    may report, `layers` (E',) the layers up to it. `point` is None where no sample leaves early, `target` (the wanted
    speed-up by FLOPs) where all layers run. `base` names the variant that its speed-up is relative to.
    """

    name: str
    precision: PrecisionName
    batch_size: int
    batches: Sequence[Batch]
    make: Callable[[], Engine]
    flops: Tensor
    layers: Tensor
    point: OperatingPoint | None = None
    target: float | None = None
    base: str | None = None

    @property
    def policy(self) -> str:
        """Name of its policy; empty where no sample leaves early."""
        return "" if self.point is None else self.point.name


HuggingFace = Callable[[PrecisionName, int | None], HuggingFaceModel]
"""The baseline of a precision, with its first layers only or with all."""


def make_variants(
    settings: BenchSettings,
    grid: Grid,
    model: MultiExitModel,
    rows: TokenisedSplit,
    points: Mapping[PrecisionName, Sequence[OperatingPoint]],
    models: Mapping[PrecisionName, MultiExitModel],
    hugging_face: HuggingFace,
    share: float = 1.0,
    onnx: Mapping[OnnxPrecision, OnnxGraphs] | None = None,
) -> dict[int, list[Variant]]:
    """Batch size to its variants, precision by precision; on a share of the samples, a batch at least."""
    device = next(model.parameters()).device
    pad = int(getattr(model.adapter.config, "pad_token_id", 0) or 0)
    found = {}
    for size in settings.batch_sizes:
        most = min(len(rows), max(FEWEST_SAMPLES, FEWEST_BATCHES * size))
        chosen = rows.select(np.arange(min(most, max(size, round(share * most)))))
        batched = partial(make_batches, chosen, size, pad, device)
        batches = {UNSORTED: batched(sort=False), SORTED: batched(sort=True)}
        if "padded" in grid.baselines:
            batches[PADDED] = batched(sort=False, pad_to=settings.max_length)
        costs = ExitCosts(model, torch.from_numpy(chosen.lengths))
        found[size] = [
            variant
            for precision, prepared in models.items()
            for variant in _variants(grid, precision, size, batches, costs, points[precision], prepared, hugging_face)
        ]
        like, first = next(v for v in found[size] if v.name == PLAIN), next(iter(points.values()))
        for kind, graphs in (onnx or {}).items():
            found[size] += _onnx_variants(grid, replace(like, precision=kind, base=None), graphs, costs, first)
        order = list(dict.fromkeys([*models, *(onnx or {})]))
        found[size].sort(key=lambda variant: order.index(variant.precision))
    return found


def _onnx_variants(
    grid: Grid, like: Variant, graphs: OnnxGraphs, costs: ExitCosts, points: Sequence[OperatingPoint]
) -> list[Variant]:
    """The whole graph, and the chain at full depth and at each point of its policy; `like` has all that is the same."""
    found = []
    if "onnx" in grid.baselines:
        found.append(replace(like, name=ONNX, make=lambda: OnnxWhole(graphs, 0.0)))
    if "onnx" in grid.engines:
        base = ONNX if found else None
        found.append(replace(like, name=CHAIN, make=lambda: OnnxChain(graphs, 0.0), base=base))
        for point in points:
            if (threshold := graphs.thresholds.get((point.name, point.target))) is not None:
                made = partial(OnnxChain, graphs, threshold)
                flops = engine_flops(costs, "shrink", point.policy)
                found.append(
                    replace(found[-1], name=CHAIN, make=made, flops=flops, point=point, target=point.target, base=base)
                )
    return found


def _variants(
    grid: Grid,
    precision: PrecisionName,
    size: int,
    batches: Mapping[str, Sequence[Batch]],
    costs: ExitCosts,
    points: Sequence[OperatingPoint],
    prepared: MultiExitModel,
    hugging_face: HuggingFace,
) -> list[Variant]:
    """The baselines, the plain model, and the engines, of one batch size in one precision."""
    model = costs.model
    layers = torch.tensor(model.exit_layers, dtype=torch.float64)
    never = FixedExit(exit=model.num_exits)
    # The base of whole models: Hugging Face's in batches sorted by length, which at batch 1 is the unsorted one.
    key, name = ("unsorted", UNSORTED) if size == 1 else ("sorted", SORTED)
    whole = name if key in grid.baselines else None
    plain = Variant(
        name=PLAIN,
        precision=precision,
        batch_size=size,
        batches=batches[SORTED],
        make=lambda: make_engine("full", prepared, never),
        flops=costs.plain.expand(model.num_exits, -1),
        layers=layers,
        base=whole,
    )

    def baseline(name: str, depth: int | None = None) -> Variant:
        classifier, depths = hugging_face(precision, depth), depth or model.num_layers
        head = model.exit(model.num_exits - 1)

        def cost(lengths: Tensor) -> Tensor:
            return model.adapter.flops(lengths, depths) + head.flops(lengths.double())

        return replace(
            plain,
            name=name,
            batches=batches.get(name, batches[SORTED]),
            make=lambda: classifier,
            flops=flops_of_windows(cost, costs.lengths, costs.model.window).unsqueeze(0),
            layers=torch.tensor([depths], dtype=torch.float64),
            base=None if depth is None else whole,
        )

    found = []
    for key, name in (("unsorted", UNSORTED), ("padded", PADDED), ("sorted", SORTED)):
        # Sorting batches of one row changes nothing; padding to the maximum is measured in float32 only.
        idle = (key == "sorted" and size == 1) or (key == "padded" and precision != "float32")
        if key in grid.baselines and not idle:
            found.append(baseline(name))
    if "first_layers" in grid.baselines:
        depths = {max(1, round(model.num_layers / point.target)) for point in points}
        found += [baseline(f"HF {k} layer{'s' * (k > 1)}", k) for k in sorted(depths, reverse=True)]
    found.append(plain)
    firsts = {point.name: point for point in reversed(points)}
    for engine in grid.engines:
        if engine == "onnx":
            continue
        full = engine == "full"  # runs all layers whatever the exits: one speed-up stands for all
        found += [
            replace(
                plain,
                name=engine,
                make=point.engine(engine, prepared, size),
                flops=engine_flops(costs, engine, point.policy),
                layers=torch.full_like(layers, model.num_layers) if full else layers,
                point=point,
                target=None if full else point.target,
                base=PLAIN,
            )
            for point in points
            if not full or point is firsts[point.name]
        ]
    return found
