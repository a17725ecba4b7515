"""What a curriculum adds to an epoch: plain order, scores collected from the training steps, scores by inference.

    python benchmarks/curriculum_cost.py
    python benchmarks/curriculum_cost.py --threads 1 --rounds 7

Rows are random tokens with lengths spread like those of sentence pairs, the model has all-MiniLM-L6-v2's shape and
random weights: nothing is downloaded. Every variant trains two epochs with Lightning, in turn in one process, round
after round; the second epoch is timed whole (order, batches, steps, scoring). The ratio of each round to the plain
order of the same round is the measurement.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import lightning as L
import numpy as np
import torch

from mebert.curriculum import Loss, RootCompetence
from mebert.curriculum.datamodule import CurriculumOrder
from mebert.data.datamodule import SplitDataModule
from mebert.data.scoring import evaluation_mode, score_split
from mebert.data.synthetic import synthetic_tokenizer
from mebert.data.tokenised import TokenisedSplit
from mebert.modules import CurriculumDistillModule
from mebert.runtime.precision import pick_precision

SHAPE = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
VARIANTS: dict[str, dict[str, Any] | None] = {
    "plain order": None,
    "collected from the steps": {"scores_from": "training"},
    "one pass of inference": {"scores_from": "inference"},
}


class EpochClock(L.Callback):
    """Seconds from the start of each epoch to its end."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds.append(time.perf_counter() - self.begin)


class FirstExit:
    """All layers are run; one exit's logits are kept."""

    def __init__(self, module: CurriculumDistillModule) -> None:
        self.module = module

    def __call__(self, batch: Any) -> torch.Tensor:
        return self.module.exit_logits(batch)[0]


def random_rows(rows: int, seed: int) -> TokenisedSplit:
    """Rows of 10 to 120 tokens, 35 in the middle."""
    generator = np.random.default_rng(seed)
    lengths = np.clip(np.exp(generator.normal(np.log(35), 0.45, rows)).astype(np.int64), 10, 120)
    tokens = generator.integers(1000, 30000, lengths.sum()).astype(np.int32)
    labels = generator.integers(0, 3, rows)
    return TokenisedSplit(tokens, np.concatenate([[0], np.cumsum(lengths)]), None, np.arange(rows), labels)


class OrderedSplits(CurriculumOrder, SplitDataModule):
    """Rows that are there already, with a curriculum."""


def make_data(split: TokenisedSplit, settings: dict[str, Any] | None, batch: int) -> SplitDataModule:
    """A data module that has the rows already."""
    common: dict[str, Any] = {
        "batch_size": batch, "eval_batch_size": 128, "group_by_length": True,
        "pad_to_multiple_of": None, "num_workers": 0, "seed": 0,
    }  # fmt: skip
    data: Any = SplitDataModule(**common)
    if settings is not None:
        data = OrderedSplits(difficulty=Loss(), pacing=RootCompetence(until=1.0), **settings, **common)
    data.splits = {"train": split}
    data.tokenizer = synthetic_tokenizer()  # only its padding is used
    return data  # type: ignore[no-any-return]


def trainer(clock: EpochClock) -> L.Trainer:
    """Two epochs, nothing but training."""
    precision: Any = pick_precision("cpu")[0]
    return L.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[clock],
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    split = random_rows(args.rows, seed=0)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    passes: list[float] = []
    for turn in range(args.rounds):
        names = list(VARIANTS)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:  # each comes first in turn
            settings = VARIANTS[name]
            L.seed_everything(0, verbose=False)
            module = CurriculumDistillModule(encoder_config=SHAPE, num_labels=3, pooling="mean")
            clock = EpochClock()
            own = trainer(clock)
            data = make_data(split, settings, args.batch)
            own.fit(module, datamodule=data)
            seconds[name].append(clock.seconds[-1])
        begin = time.perf_counter()
        with evaluation_mode(module):
            score_split(own, split, data.collate_for(), FirstExit(module), 128)
        passes.append(time.perf_counter() - begin)
    plain = seconds["plain order"]
    print(
        f"one epoch of {args.rows:,} rows, batches of {args.batch}, all-MiniLM-L6-v2's shape, CPU, "
        f"{args.threads} thread(s), {pick_precision('cpu')[0]}, {args.rounds} interleaved rounds"
    )
    print(f"{'':26}{'seconds (median)':>18}{'ratio (median)':>16}{'from':>8}{'to':>8}")
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(values, plain, strict=True)]
        middle = statistics.median(ratios)
        print(f"{name:26}{statistics.median(values):18.2f}{middle:16.3f}{min(ratios):8.3f}{max(ratios):8.3f}")
    share = statistics.median([p / b for p, b in zip(passes, plain, strict=True)])
    print(f"one pass of inference over the rows: {statistics.median(passes):.2f} s, {share:.3f} of a plain epoch")


if __name__ == "__main__":
    main()
