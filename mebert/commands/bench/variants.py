"""What is timed: baselines, the plain model, and each engine with each policy at each speed-up.

Shapes: N samples, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mebert.calibration import ExitCosts
from mebert.commands.bench.baselines import HuggingFaceModel, hugging_face_model
from mebert.commands.bench.points import OperatingPoint, engine_flops
from mebert.commands.bench.settings import BenchSettings
from mebert.commands.bench.texts import Batch, make_batches
from mebert.commands.bench.timing import Runs
from mebert.data.tokenised import TokenisedSplit
from mebert.inference import PrecisionName, make_engine
from mebert.models import MultiExitModel
from mebert.policies import FixedExit

UNSORTED, SORTED, PADDED, PLAIN = "HF", "HF sorted", "HF padded", "plain"
FEWEST_SAMPLES, FEWEST_BATCHES = 64, 8


@dataclass(kw_only=True)
class Variant:
    """One thing that is timed.

    Attributes:
        name: `HF`, `HF sorted`, `HF padded`, `HF k layers`, `plain`, or an engine's name.
        make: Makes a fresh engine, for every run.
        flops: Cost of each sample at each exit that it may report, (E', N).
        layers: Layers that run up to each such exit, (E',).
        point: Its operating point; None where no sample leaves early.
        target: Wanted speed-up by FLOPs; None where all layers run.
        base: Name of the variant (same precision and batch size) that its speed-up is relative to, or None.
    """

    name: str
    precision: PrecisionName
    batch_size: int
    batches: Sequence[Batch]
    make: Callable[[], Runs]
    flops: Tensor
    layers: Tensor
    point: OperatingPoint | None = None
    target: float | None = None
    base: str | None = None

    @property
    def policy(self) -> str:
        """Name of its policy; empty where no sample leaves early."""
        return "" if self.point is None else self.point.name


def make_variants(
    settings: BenchSettings,
    model: MultiExitModel,
    rows: TokenisedSplit,
    points: Mapping[PrecisionName, Sequence[OperatingPoint]],
    models: Mapping[PrecisionName, MultiExitModel],
) -> dict[int, list[Variant]]:
    """Batch size to its variants, precision by precision."""
    device = next(model.parameters()).device
    classifiers: dict[tuple[PrecisionName, int | None], HuggingFaceModel] = {}

    def hugging_face(precision: PrecisionName, depth: int | None) -> Callable[[], Runs]:
        if (precision, depth) not in classifiers:
            made = hugging_face_model(model, device, precision, depth, settings.compile)
            classifiers[precision, depth] = HuggingFaceModel(made)
        classifier = classifiers[precision, depth]
        return lambda: classifier

    found = {}
    for size in settings.batch_sizes:
        chosen = rows.select(np.arange(min(len(rows), max(FEWEST_SAMPLES, FEWEST_BATCHES * size))))
        batches = _batches(settings, model, chosen, size)
        costs = ExitCosts(model, torch.from_numpy(chosen.lengths))
        found[size] = [
            variant
            for precision in points
            for variant in [
                *_baselines(settings, precision, size, batches, costs, points[precision], hugging_face),
                *_engines(settings, precision, size, batches[SORTED], costs, points[precision], models[precision]),
            ]
        ]
    return found


def _batches(settings: BenchSettings, model: MultiExitModel, rows: TokenisedSplit, size: int) -> dict[str, list[Batch]]:
    device = next(model.parameters()).device
    pad = int(getattr(model.adapter.config, "pad_token_id", 0) or 0)
    found = {
        UNSORTED: make_batches(rows, size, pad, device, sort=False),
        SORTED: make_batches(rows, size, pad, device, sort=True),
    }
    if "padded" in settings.baselines:
        found[PADDED] = make_batches(rows, size, pad, device, sort=False, pad_to=settings.max_length)
    return found


def _baselines(
    settings: BenchSettings,
    precision: PrecisionName,
    size: int,
    batches: Mapping[str, list[Batch]],
    costs: ExitCosts,
    points: Sequence[OperatingPoint],
    hugging_face: Callable[[PrecisionName, int | None], Callable[[], Runs]],
) -> list[Variant]:
    model = costs.model

    def variant(name: str, given: list[Batch], depth: int | None = None) -> Variant:
        layers = model.num_layers if depth is None else depth
        head = model.exit(model.num_exits - 1).flops(costs.lengths.double())
        return Variant(
            name=name,
            precision=precision,
            batch_size=size,
            batches=given,
            make=hugging_face(precision, depth),
            flops=(model.adapter.flops(costs.lengths, layers) + head).unsqueeze(0),
            layers=torch.tensor([layers], dtype=torch.float64),
        )

    found = []
    for key, name in (("unsorted", UNSORTED), ("padded", PADDED), ("sorted", SORTED)):
        # Sorting batches of one row changes nothing; padding to the maximum is measured in float32 only.
        idle = (key == "sorted" and size == 1) or (key == "padded" and precision != "float32")
        if key in settings.baselines and not idle:
            found.append(variant(name, batches[name]))
    if "first_layers" in settings.baselines:
        depths = {max(1, round(model.num_layers / point.target)) for point in points}
        for depth in sorted(depths, reverse=True):
            cut = variant(f"HF {depth} layer{'s' if depth > 1 else ''}", batches[SORTED], depth)
            found.append(replace(cut, base=_whole_model(settings, size)))
    return found


def _engines(
    settings: BenchSettings,
    precision: PrecisionName,
    size: int,
    batches: list[Batch],
    costs: ExitCosts,
    points: Sequence[OperatingPoint],
    model: MultiExitModel,
) -> list[Variant]:
    """The plain model, then the engines."""
    layers = torch.tensor(costs.model.exit_layers, dtype=torch.float64)
    never = FixedExit(exit=model.num_exits)
    plain = Variant(
        name=PLAIN,
        precision=precision,
        batch_size=size,
        batches=batches,
        make=lambda: make_engine("full", model, never),
        flops=costs.plain.expand(model.num_exits, -1),
        layers=layers,
        base=_whole_model(settings, size),
    )
    found = [plain]
    for engine in settings.engines:
        full = engine == "full"  # runs all layers whatever the exits: one speed-up stands for all
        firsts = {point.name: point for point in reversed(points)}
        found += [
            replace(
                plain,
                name=engine,
                make=point.engine(engine, model, size),
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


def _whole_model(settings: BenchSettings, size: int) -> str | None:
    """The base of whole models: Hugging Face's in batches sorted by length, which at batch 1 is the unsorted one."""
    key, name = ("unsorted", UNSORTED) if size == 1 else ("sorted", SORTED)
    return name if key in settings.baselines else None
