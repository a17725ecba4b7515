"""Loaders of the splits that have been prepared; a data module adds Lightning's class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mebert.data.resumable import ResumableLoader
from mebert.data.samplers import EvalSampler, LengthGroupedSampler, OrderedSampler
from mebert.data.tokenised import Batch, Item, TokenisedSplit, collate
from mebert.data.unlabelled import SPLIT, JoinedSplit, UnlabelledBeside
from mebert.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAGES = {"train": "fit", "val": "validate", "test": "test"}


class SplitLoaders:
    """Loaders of tokenised splits by name; a subclass fills `splits` and the two lists of names.

    Settings as in `TextDataModule`.
    """

    tokenizer: PreTrainedTokenizerBase
    trainer: Any = None  # Lightning's, once it runs a data module; a type of it would be imported by jsonargparse

    def __init__(
        self,
        batch_size: int,
        eval_batch_size: int,
        group_by_length: bool,
        pad_to_multiple_of: int | None,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.group_by_length = group_by_length
        self.pad_to_multiple_of = pad_to_multiple_of
        self.num_workers = num_workers
        self.seed = seed
        self.splits: dict[str, TokenisedSplit] = {}
        self.validation_names = ["val"]
        self.test_names = ["test"]

    def prepare_data(self) -> None:
        """Prepare the splits of the trainer's command, once a machine."""

    def setup(self, stage: str | None = None) -> None:
        """Prepare the splits of a stage (`fit`, `validate`, `test`, `predict`); null for all."""

    def split(self, name: str) -> TokenisedSplit:
        """Return a split that has been prepared."""
        if name not in self.splits:
            raise UserError(f"no {name} split is loaded; give its rows, and call prepare_data() and setup() first")
        return self.splits[name]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches of the training rows; a resumed run continues in the middle of its epoch."""
        split, sampler = self.split("train"), self.train_sampler()
        if (unlabelled := self.splits.get(SPLIT)) is None:
            return self._loader(split, sampler, self.batch_size)
        sizes = self.batch_size, split.lengths, unlabelled.lengths
        beside = UnlabelledBeside(sampler, *sizes, self.group_by_length)
        return self._loader(JoinedSplit(split, unlabelled), beside, self.batch_size + beside.share)

    def train_sampler(self) -> OrderedSampler:
        """Return the sampler of the training rows; override it for another order."""
        lengths, (replicas, rank) = self.split("train").lengths, self._world()
        return LengthGroupedSampler(lengths, self.batch_size, replicas, rank, self.seed, self.group_by_length)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return [self._eval_loader(name) for name in self.validation_names]

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        return [self._eval_loader(name) for name in self.test_names]

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._eval_loader("predict")

    def collate_for(self, tokenizer: PreTrainedTokenizerBase | None = None) -> Callable[[Sequence[Item]], Batch]:
        """Return the function that makes a batch of rows in a tokenizer's ids; None for the data module's own."""
        own = self.tokenizer if tokenizer is None else tokenizer
        return partial(
            collate,
            pad_token_id=own.pad_token_id,
            pad_token_type_id=own.pad_token_type_id,
            pad_to_multiple_of=self.pad_to_multiple_of,
        )

    def _eval_loader(self, name: str) -> DataLoader[Batch]:
        split = self.split(name)
        return self._loader(split, EvalSampler(split.lengths, *self._world()), self.eval_batch_size)

    def _world(self) -> tuple[int, int]:
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _loader(self, split: Dataset[Item], sampler: Sampler[int], batch_size: int) -> DataLoader[Batch]:
        kind = ResumableLoader if isinstance(sampler, OrderedSampler) else DataLoader
        return kind(
            split,
            batch_size=batch_size,
            sampler=sampler,
            # Iterators that draw from the global random state would change the dropout of a resumed run.
            generator=torch.Generator().manual_seed(self.seed),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=self.collate_for(),
        )


def open_split(data: SplitLoaders, split: str) -> TokenisedSplit:
    """Set a data module up for a split (`train`, `val`, `test`, or such as `val_mismatched`), and return it."""
    group = split.partition("_")[0]
    if group not in STAGES:
        raise UserError(f"split must be train, val or test (or such as val_mismatched), got {split!r}")
    data.setup(STAGES[group])
    return data.split(split)
