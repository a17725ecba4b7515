"""`python -m mebert bench`: the speed of early exit on this machine, against the models that it has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mebert.choices import HeadKind, PoolingKind, PrecisionName
from mebert.errors import UserError, brief
from mebert.storage.paths import check_output

Baseline = Literal["unsorted", "padded", "sorted", "first_layers", "onnx"]
BenchEngine = Literal["shrink", "full", "refill", "predicted", "onnx"]  # `EngineName`s, and the backend of an export

BUDGET = 40.0  # seconds; with the start of Python less than a minute, also on a busy machine


@dataclass(frozen=True)
class Grid:
    """What is measured where the settings leave it open; `budget` in seconds, None: no limit."""

    speedups: list[float]
    engines: list[BenchEngine]
    baselines: list[Baseline]
    breakdown: bool
    budget: float | None


QUICK = Grid([2.0], ["shrink", "refill", "onnx"], ["unsorted", "sorted", "onnx"], breakdown=False, budget=BUDGET)
THOROUGH = Grid(
    [2.0, 3.0],
    ["full", "shrink", "refill", "predicted", "onnx"],
    ["unsorted", "sorted", "first_layers", "onnx"],
    breakdown=True,
    budget=None,
)


@dataclass
class BenchSettings:
    """Measure the speed of early exit against the models that it has to beat, in turn, in one process.

    Prints a table for each batch size and one line that says whether early exit pays on this machine; of a trained
    model, at an accuracy that holds. A run is measured on its own test texts at its default operating point, whose
    accuracy its last test has stored. With `speedups` the thresholds are those that meet them on the texts measured.
    A model without trained exits has random ones: where samples leave is drawn so that the speed-ups are met, while
    heads and policies are still computed and counted.

    Args:
        model: A run, a saved model (folder or Hub id), or a plain encoder, whose exits are then random. Null: random
            weights of a `size`.
        size: Random weights of a well-known size, nothing is downloaded: tiny, minilm (6 layers of 384; the default),
            bert-base, bert-large.
        encoder_config: Random weights of any size: arguments of the Hugging Face configuration with `model_type`.
        task: Named task whose texts are measured; null: those of the run.
        split: Split of the task, or of the run's data: train, val or test.
        texts: File of own texts: .txt (one a line), .csv, .tsv, .jsonl or .parquet.
        text_column: Column of the (first) text in `texts`; null for that of the training, else found.
        text_pair_column: Column of the second text of a pair in `texts`; null for that of the training, else found.
        lengths: Instead of texts: random tokens as long as the texts of sst2, snli, mnli, mrpc, ag_news or imdb; or
            "mean,std" in tokens; or one length for all. Null: as the run's, or snli where there is none.
        tokenizer: Hub id or folder; null for the model's own (random weights: google-bert/bert-base-uncased).
        max_length: Longest input in tokens; longer ones are cut. Null: as the model was trained, else 128 or as many
            as it can read.
        policies: Names, such as entropy, margin, patience, pcee, stacked, edr; null for the one saved with the model,
            else entropy.
        speedups: Wanted speed-ups by FLOPs, each at least 1; 1 is the full depth. Null: a saved model's default
            operating point, else 2; `thorough` adds 2 and 3.
        engines: Of full, shrink, refill, predicted, and onnx (the chain of graphs that `export` writes, on ONNX
            Runtime, for the first of the policies). Null: shrink, refill and onnx; `thorough`: all.
        baselines: Hugging Face's own classifier: `unsorted` (input order, padded to the longest row of a batch),
            `padded` (to max_length), `sorted` (by length), `first_layers` (the first layers only, for each speed-up);
            and `onnx`, the whole model as one graph on ONNX Runtime, as fused and as quantised as the chain.
            Null: unsorted, sorted and onnx; `thorough`: first_layers, too.
        batch_sizes: Rows of a batch.
        precisions: Of float32, bfloat16, int8 (CPU only). Null: the one that `predict` uses here; `thorough`: float32
            and those that are faster here. ONNX Runtime's are float32 and int8.
        samples: Number of texts. A batch size of b runs max(64, 8 b) of them at most.
        rounds: How often everything is run.
        thorough: Measure the whole grid, however long it takes.
        budget: Seconds for all of it; rounds and then texts are cut to it. Null: 40; `thorough`: no limit.
        breakdown: Also measure where the time of `shrink` goes. Null: as `thorough`.
        threads: Threads of PyTorch; null leaves them as they are (OMP_NUM_THREADS).
        device: auto, cpu, cuda, cuda:1, mps.
        compile: Compile the layers with `torch.compile`, the baselines' too.
        num_labels: Classes, where the exits are random.
        pooling: Pooling of random exits.
        head: Classifier of random exits.
        seed: Determines random weights, tokens and draws.
        out: Folder for bench.json, bench.csv and bench.png; null for bench/<model>.
    """

    model: str | None = None
    size: str | None = None
    encoder_config: dict[str, Any] | None = None
    task: str | None = None
    split: str = "test"
    texts: str | None = None
    text_column: str | None = None
    text_pair_column: str | None = None
    lengths: str | None = None
    tokenizer: str | None = None
    max_length: int | None = None
    policies: list[str] | None = None
    speedups: list[float] | None = None
    engines: list[BenchEngine] | None = None
    baselines: list[Baseline] | None = None
    batch_sizes: list[int] = field(default_factory=lambda: [1, 32])
    precisions: list[PrecisionName] | None = None
    samples: int = 256
    rounds: int = 3
    thorough: bool = False
    budget: float | None = None
    breakdown: bool | None = None
    threads: int | None = None
    device: str = "auto"
    compile: bool = False
    num_labels: int = 2
    pooling: PoolingKind = "cls"
    head: HeadKind = "mlp"
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        for name in ("samples", "rounds", "max_length", "num_labels", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if not self.batch_sizes or not all(1 <= size < 2**31 for size in self.batch_sizes):
            raise UserError(f"batch_sizes must be numbers from 1 to {2**31 - 1}, got {brief(self.batch_sizes)}")
        if self.speedups is not None and not (self.speedups and all(1 <= one < math.inf for one in self.speedups)):
            raise UserError(f"speedups must be numbers of at least 1, got {self.speedups}")
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise UserError(f"budget must be above 0 seconds, got {self.budget:g}")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, got {self.seed}")
        if self.out is not None:
            check_output("out", self.out, folder=True)
        if self.task is not None and self.texts is not None:
            raise UserError(f"task and texts were both given ({self.task}, {self.texts}); give one of them")

    def grid(self) -> Grid:
        """What to measure: as set, else the quick or the thorough grid."""
        own = {name: value for name in vars(QUICK) if (value := getattr(self, name)) is not None}
        return replace(THOROUGH if self.thorough else QUICK, **own)


bench = BenchSettings
