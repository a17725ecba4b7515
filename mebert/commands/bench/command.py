"""`python -m mebert bench`: the speed of early exit on this machine, against the models that it has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from mebert.choices import EngineName, HeadKind, PoolingKind, PrecisionName

Baseline = Literal["unsorted", "padded", "sorted", "first_layers"]


def bench(
    model: str | None = None,
    size: str | None = None,
    encoder_config: dict[str, Any] | None = None,
    task: str | None = None,
    split: str = "test",
    texts: str | None = None,
    text_column: str = "text",
    text_pair_column: str | None = None,
    lengths: str = "snli",
    tokenizer: str | None = None,
    max_length: int = 128,
    policies: list[str] | None = None,
    speedups: list[float] = [2.0, 3.0],  # noqa: B006  (jsonargparse copies it)
    engines: list[EngineName] = ["full", "shrink", "refill", "predicted"],  # noqa: B006
    baselines: list[Baseline] = ["unsorted", "sorted", "first_layers"],  # noqa: B006
    batch_sizes: list[int] = [1, 32],  # noqa: B006
    precisions: list[PrecisionName] | None = None,
    samples: int = 256,
    rounds: int = 3,
    breakdown: bool = True,
    threads: int | None = None,
    device: str = "auto",
    compile: bool = False,
    num_labels: int = 2,
    pooling: PoolingKind = "cls",
    head: HeadKind = "mlp",
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Measure the speed of early exit against the models that it has to beat, in turn, in one process.

    Prints a table for each batch size and one line that says whether early exit is worth it on this machine. With
    trained exits the policies decide, at thresholds that meet the speed-ups on these very texts (no labels are needed).
    Any other model has random exits: where samples leave is drawn so that the speed-ups are met, while heads and
    policies are still computed and counted.

    Args:
        model: A model folder written by `fit` (`<run>/model`), a run, or a folder or Hub id of a plain encoder, whose
            exits are then random. Null: random weights of a `size`.
        size: Random weights of a well-known size, nothing is downloaded: tiny, minilm (6 layers of 384; the default),
            bert-base, bert-large.
        encoder_config: Random weights of any size: arguments of the Hugging Face configuration with `model_type`.
        task: Named task whose texts are measured.
        split: Split of the task: train, val or test.
        texts: File of own texts: .txt (one a line), .csv, .tsv, .jsonl or .parquet.
        text_column: Column of the text in `texts`.
        text_pair_column: Column of the second text of a pair in `texts`.
        lengths: Without `task` and `texts`: random tokens as long as the texts of sst2, snli, mnli, mrpc, ag_news or
            imdb; or "mean,std" in tokens; or one length for all.
        tokenizer: Hub id or folder; null for the model's own (random weights: google-bert/bert-base-uncased).
        max_length: Longest input in tokens; longer ones are cut.
        policies: Names, such as entropy, margin, patience, pcee, stacked, edr; null for the one saved with the model,
            else entropy.
        speedups: Wanted speed-ups by FLOPs, each above 1.
        engines: Of full, shrink, refill, predicted.
        baselines: Hugging Face's own classifier: `unsorted` (input order, padded to the longest row of a batch),
            `padded` (to max_length), `sorted` (by length), `first_layers` (the first layers only, for each speed-up).
        batch_sizes: Rows of a batch.
        precisions: Of float32, bfloat16, int8 (CPU only); null for float32 and those that are faster here.
        samples: Number of texts. A batch size of b runs max(64, 8 b) of them at most.
        rounds: How often everything is run.
        breakdown: Also measure where the time of `shrink` goes.
        threads: Threads of PyTorch; null leaves them as they are (OMP_NUM_THREADS).
        device: auto, cpu, cuda, cuda:1, mps.
        compile: Compile the layers with `torch.compile`, the baselines' too.
        num_labels: Classes, where the exits are random.
        pooling: Pooling of random exits.
        head: Classifier of random exits.
        seed: Determines random weights, tokens and draws.
        out: Folder for bench.json, bench.csv and bench.png; null for bench/<model>.
    """
    arguments = dict(locals())
    from mebert.commands.bench.run import run_bench
    from mebert.commands.bench.settings import BenchSettings

    run_bench(BenchSettings(**arguments))
