"""The settings of a measurement, checked; the default precisions of this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mebert.choices import HeadKind, PoolingKind
from mebert.errors import UserError
from mebert.inference import EngineName, PrecisionName
from mebert.runtime.precision import pick_precision
from mebert.storage.paths import check_output


@dataclass
class BenchSettings:
    """The arguments of `mebert.commands.bench.command.bench`, where they are explained."""

    model: str | None
    size: str | None
    encoder_config: dict[str, Any] | None
    task: str | None
    split: str
    texts: str | None
    text_column: str
    text_pair_column: str | None
    lengths: str
    tokenizer: str | None
    max_length: int
    policies: Sequence[str] | None
    speedups: Sequence[float]
    engines: Sequence[EngineName]
    baselines: Sequence[str]
    batch_sizes: Sequence[int]
    precisions: Sequence[PrecisionName] | None
    samples: int
    rounds: int
    breakdown: bool
    threads: int | None
    device: str
    compile: bool
    num_labels: int
    pooling: PoolingKind
    head: HeadKind
    seed: int
    out: Path | None

    def __post_init__(self) -> None:
        for name in ("samples", "rounds", "max_length", "num_labels", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise UserError(f"batch_sizes must be numbers of at least 1, got {list(self.batch_sizes)}")
        if not self.speedups or not all(1 < speedup < math.inf for speedup in self.speedups):
            raise UserError(f"speedups must be numbers above 1, got {list(self.speedups)}")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, got {self.seed}")
        if self.out is not None:
            check_output("out", self.out, folder=True)
        if self.task is not None and self.texts is not None:
            raise UserError(f"task and texts were both given ({self.task}, {self.texts}); give one of them")


def pick_precisions(given: Sequence[PrecisionName] | None, device: torch.device) -> list[PrecisionName]:
    """The precisions to measure; None: float32 and those that this machine multiplies fast.

    Raises:
        UserError: One is given twice, or does not run on the device.
    """
    if given is None:
        chosen: list[PrecisionName] = ["float32"]
        if pick_precision(device.type)[0].startswith("bf16"):
            chosen.append("bfloat16")
        return chosen + (["int8"] if device.type == "cpu" else [])
    if not given or len(set(given)) < len(given):
        raise UserError(f"precisions must be one or more different ones, got {list(given)}")
    if "int8" in given and device.type != "cpu":
        raise UserError(f"precision int8 runs on the CPU only, and the device is {device}; leave it out of precisions")
    return list(given)
