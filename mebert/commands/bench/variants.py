"""Who is timed against whom: baselines, the plain model, and each engine with each policy at each speed-up.

Shapes: N samples, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mebert.commands.bench.arithmetic import Costs
from mebert.commands.bench.baselines import HuggingFaceModel, hugging_face_model
from mebert.commands.bench.operating import OperatingPoint
from mebert.commands.bench.texts import Batch, make_batches
from mebert.commands.bench.timing import Runs
from mebert.data.tokenised import TokenisedSplit
from mebert.inference import EngineName, PrecisionName, make_engine
from mebert.models import MultiExitModel
from mebert.policies import FixedExit

__all__ = ["PLAIN", "SORTED", "USUAL", "Contenders", "Variant"]

USUAL = "HF"
SORTED = "HF sorted"
PADDED = "HF padded"
PLAIN = "plain"


@dataclass(kw_only=True)
class Variant:
    """One thing that is timed.

    Attributes:
        name: `HF`, `HF sorted`, `HF padded`, `HF k layers`, `plain`, or an engine's name.
        precision: Of its weights.
        batch_size: Most rows of a batch.
        batches: What it is fed.
        make: A fresh engine, for every run.
        flops: Cost of each sample at each exit that it may report, (E', N).
        layers: Layers that run up to each such exit, (E',).
        policy: Its indicator; empty where nothing leaves early.
        target: Wanted speed-up by FLOPs, or None.
        base: Name of what its wall-clock speed-up is measured against (same precision and batch size), or None.
    """

    name: str
    precision: PrecisionName
    batch_size: int
    batches: Sequence[Batch]
    make: Callable[[], Runs]
    flops: Tensor
    layers: Tensor
    policy: str = ""
    target: float | None = None
    base: str | None = None


class Contenders:
    """Makes the contenders of all batch sizes; models of one precision are shared.

    Args:
        model: In float32.
        rows: All samples.
        points: The operating points of each precision.
        models: The model of each precision, prepared for inference.
        device: Where all run.
        compile: Whether baselines are compiled, too.
        max_length: What `HF padded` pads to.
    """

    def __init__(
        self,
        model: MultiExitModel,
        rows: TokenisedSplit,
        points: Mapping[PrecisionName, Sequence[OperatingPoint]],
        models: Mapping[PrecisionName, MultiExitModel],
        device: torch.device,
        compile: bool,
        max_length: int,
    ) -> None:
        self.model, self.rows, self.points, self.models = model, rows, points, models
        self.device, self.compile, self.max_length = device, compile, max_length
        self.pad = int(getattr(model.adapter.config, "pad_token_id", 0) or 0)
        self._classifiers: dict[tuple[PrecisionName, int | None], HuggingFaceModel] = {}

    def of(
        self, batch_size: int, samples: int, baselines: Sequence[str], engines: Sequence[EngineName]
    ) -> list[Variant]:
        """All contenders at a batch size, precision by precision.

        Args:
            batch_size: Rows of a batch.
            samples: How many of the rows are run: the first.
            baselines: Of usual, padded, sorted, first_layers.
            engines: Of full, shrink, refill, predicted.
        """
        rows = self.rows.select(np.arange(samples))
        batches = {
            USUAL: make_batches(rows, batch_size, self.pad, self.device, sort=False),
            SORTED: make_batches(rows, batch_size, self.pad, self.device, sort=True),
        }
        if "padded" in baselines:
            batches[PADDED] = make_batches(rows, batch_size, self.pad, self.device, sort=False, pad_to=self.max_length)
        costs = Costs(self.model, torch.from_numpy(rows.lengths))
        found: list[Variant] = []
        for precision in self.points:
            found += self._baselines(precision, batch_size, batches, costs, baselines)
            plain = self._plain(precision, batch_size, batches[SORTED], costs)
            plain.base = _base(batch_size, baselines)
            found.append(plain)
            found += self._engines(precision, batch_size, batches[SORTED], costs, engines)
        return found

    def _baselines(
        self,
        precision: PrecisionName,
        size: int,
        batches: Mapping[str, list[Batch]],
        costs: Costs,
        wanted: Sequence[str],
    ) -> list[Variant]:
        found = []
        for key, name in (("usual", USUAL), ("padded", PADDED), ("sorted", SORTED)):
            # Sorting batches of one row changes nothing; padding to the maximum is shown for the usual precision only.
            idle = (key == "sorted" and size == 1) or (key == "padded" and precision != "float32")
            if key in wanted and not idle:
                found.append(self._classifier(name, precision, size, batches[name], costs))
        if "first_layers" in wanted:
            targets = {point.target for point in self.points[precision]}
            depths = {max(1, round(self.model.num_layers / target)) for target in targets}
            for depth in sorted(depths, reverse=True):
                name = f"HF {depth} layer{'s' if depth > 1 else ''}"
                cut = self._classifier(name, precision, size, batches[SORTED], costs, depth)
                cut.base = _base(size, wanted)
                found.append(cut)
        return found

    def _plain(self, precision: PrecisionName, size: int, batches: list[Batch], costs: Costs) -> Variant:
        model = self.models[precision]
        never = FixedExit(exit=model.num_exits)
        return Variant(
            name=PLAIN,
            precision=precision,
            batch_size=size,
            batches=batches,
            make=lambda: make_engine("full", model, never),
            flops=costs.plain.expand(model.num_exits, -1),
            layers=self._layers,
        )

    def _engines(
        self, precision: PrecisionName, size: int, batches: list[Batch], costs: Costs, engines: Sequence[EngineName]
    ) -> list[Variant]:
        model, found = self.models[precision], []
        for engine in engines:
            seen = set()
            for point in self.points[precision]:
                full = engine == "full"  # all layers run, wherever samples leave: one speed-up stands for all
                if full and point.policy in seen:
                    continue
                seen.add(point.policy)
                found.append(
                    Variant(
                        name=engine,
                        precision=precision,
                        batch_size=size,
                        batches=batches,
                        make=point.engine(engine, model, size),
                        flops=costs.of_engine(engine, point.live),
                        layers=torch.full_like(self._layers, model.num_layers) if full else self._layers,
                        policy=point.policy,
                        target=None if full else point.target,
                        base=PLAIN,
                    )
                )
        return found

    @property
    def _layers(self) -> Tensor:
        return torch.tensor(self.model.exit_layers, dtype=torch.float64)

    def _classifier(
        self,
        name: str,
        precision: PrecisionName,
        size: int,
        batches: list[Batch],
        costs: Costs,
        depth: int | None = None,
    ) -> Variant:
        key = (precision, depth)
        if key not in self._classifiers:
            made = hugging_face_model(self.model, self.device, precision, depth, self.compile)
            self._classifiers[key] = HuggingFaceModel(made)
        classifier = self._classifiers[key]
        layers = self.model.num_layers if depth is None else depth
        return Variant(
            name=name,
            precision=precision,
            batch_size=size,
            batches=batches,
            make=lambda: classifier,
            flops=costs.first_layers(layers),
            layers=torch.tensor([layers], dtype=torch.float64),
        )


def _base(size: int, wanted: Sequence[str]) -> str | None:
    """The whole Hugging Face model in batches sorted by length, which at batch 1 is the usual one."""
    if size == 1:
        return USUAL if "usual" in wanted else None
    return SORTED if "sorted" in wanted else None
