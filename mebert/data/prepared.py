"""From raw rows to tokenised splits: what a data module of texts does with the rows that it was given.

N rows of a split.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader
from typing_extensions import override

from mebert.data.checks import check_rankable
from mebert.data.files import is_large, load_file
from mebert.data.holdout import arrange, groups_for, used_by
from mebert.data.loaders import Batch, SplitLoaders
from mebert.data.rows import Rows
from mebert.data.streaming import FileStream, StreamedBatches
from mebert.data.tasks import Task
from mebert.data.tokenised import TokenisedSplit, check_tokenizer, tokenise
from mebert.errors import UserError

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

__all__ = ["PreparedSplits"]


class PreparedSplits(SplitLoaders):
    """Labels, hold-out, samples and token ids of the splits that a command needs, prepared once a process.

    Whoever inherits says where the rows come from (`load_splits`, `build_tokenizer`) and sets what is annotated here.
    """

    task: Task | None
    files: Mapping[str, str]
    tokenizer_name: str
    max_length: int
    predict_file: str | None
    streaming: bool | None
    max_train_samples: int | None
    max_eval_samples: int | None
    holdout: float
    text_columns: tuple[str, ...]
    predict_columns: tuple[str, ...]
    label_column: str
    label_names: list[str]
    regression: bool
    query_column: str | None
    metrics: tuple[str, ...]

    def __init__(
        self,
        batch_size: int,
        eval_batch_size: int,
        group_by_length: bool,
        pad_to_multiple_of: int | None,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, group_by_length, pad_to_multiple_of, num_workers, seed)
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._prepared: set[str | None] = set()
        self._rows: dict[str, Rows] = {}
        self._predicted: Rows | None = None
        self._stream: FileStream | None = None  # instead, where the file to predict is too large to be held
        # How many rows each of the splits gave that are predicted one after the other, by name.
        self.predict_parts: dict[str, int] = {}

    @abstractmethod
    def build_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer; called once a process, on rank 0 first."""

    @abstractmethod
    def load_splits(self, groups: Collection[str]) -> dict[str, datasets.Dataset]:
        """Return the raw rows; as `TextDataModule.load_splits`."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, loaded when it is first asked for."""
        if self._tokenizer is None:
            self._tokenizer = self.build_tokenizer()
            check_tokenizer(self._tokenizer, self.tokenizer_name, self.max_length)
        return self._tokenizer

    def prepare_data(self) -> None:
        """Load, check and tokenise all that the command needs, so that a fault shows at once."""
        running = None if self.trainer is None else self.trainer.state.fn
        self._prepare(None if running is None else running.value)

    def setup(self, stage: str | None = None) -> None:
        """Do the same on every process, which finds the token ids in the cache."""
        self._prepare(stage)

    def predict_rows(self, indices: Collection[int]) -> dict[str, list[str | None]]:
        """Return the texts of predicted rows, by column, and the question that each answers.

        Args:
            indices: Row numbers as in `index` of the batches; of a streamed file they should rise.
        """
        if self._stream is not None:
            return self._stream.texts(list(indices))
        self.split("predict")
        assert self._predicted is not None
        names = list(self._read("predict"))
        chosen = self._predicted.table.select_columns(names)[list(indices)]
        return {name: list(chosen[name]) for name in names}

    @override
    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return batches without labels of the rows to predict, the longest first (of each window, in a stream)."""
        if self._stream is None:
            return super().predict_dataloader()
        args = self._stream, self.tokenizer, self.max_length, self.collate_for(), self.eval_batch_size
        return StreamedBatches(*args, *self._world()).loader(self.num_workers)

    def texts(self, name: str, positions: Collection[int]) -> dict[str, list[str | None]]:
        """Return texts of a prepared split, by column.

        Args:
            name: The split.
            positions: Places of rows in the split, from 0 (not row numbers of the raw data).

        Raises:
            UserError: The split has not been prepared.
        """
        rows, columns = self._rows_of(name), list(self._columns(name))
        chosen = rows.table.select_columns(columns)[[int(rows.chosen[position]) for position in positions]]
        return {column: list(chosen[column]) for column in columns}

    def tokenised_with(self, name: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> TokenisedSplit:
        """Return a prepared split in the token ids of another tokenizer, its rows in the same order.

        Args:
            name: The split.
            tokenizer: That of another model.
            max_length: Longest row in tokens; longer ones are cut.

        Raises:
            UserError: The split has not been prepared.
        """
        return tokenise(self._rows_of(name), tokenizer, max_length, self._columns(name), name)

    def _rows_of(self, name: str) -> Rows:
        self.split(name)  # says what is missing
        return self._rows[name]

    def _origin(self, name: str) -> str:
        if name in self.files:
            return self.files[name]
        whose = f" of task {self.task.name!r}" if self.task is not None else ""
        return f"the {name} split{whose}"

    def _prepare(self, stage: str | None) -> None:
        if stage in self._prepared or None in self._prepared:
            return
        groups = groups_for(stage, self.holdout)
        if self.predict_file is not None:
            groups = tuple(group for group in groups if group != "predict")
        raw = self.load_splits(groups) if groups else {}
        tables = {name: raw.pop(name) for name in list(raw) if name.startswith("predict")}
        if used_by("predict", stage):
            self._prepare_prediction(tables, required=stage is not None)
        splits, note = arrange(
            {name: self._labelled(table, name) for name, table in raw.items()},
            self.holdout,
            self.seed,
            keep=self.files,
        )
        if note and used_by("test", stage):
            rank_zero_info(note)
        splits = {name: rows for name, rows in splits.items() if used_by(name, stage)}
        self._require(splits, stage)
        for name, rows in splits.items():
            if name not in self.splits:
                self.splits[name] = self._tokenise(self._sampled(rows, name), name)
                if name != "train":
                    check_rankable(self.splits[name], self.metrics, rows.origin)
        for names, group in ((self.validation_names, "val"), (self.test_names, "test")):
            names[:] = [name for name in splits if name.startswith(group)] or names
        self._prepared.add(stage)

    def _prepare_prediction(self, tables: Mapping[str, datasets.Dataset], required: bool) -> None:
        import datasets

        if self.predict_file is not None and self._is_streamed(self.predict_file):
            self._stream = FileStream(self.predict_file, self._read("predict"), self._columns("predict"))
            self._stream.check()
            return
        if self.predict_file is not None:
            rows = Rows.unlabelled(load_file(self.predict_file, self._read("predict"), None), self.predict_file)
        elif tables:
            first, *more = tables.values()
            whole = datasets.concatenate_datasets([first, *more]) if more else first
            rows = Rows.unlabelled(whole, self._origin("predict"))
            self.predict_parts = {name: len(table) for name, table in tables.items()}
        elif required:
            raise UserError("nothing to predict: no test split; give predict_file, or with a task predict_split")
        else:
            return
        self._predicted = rows
        self.splits["predict"] = self._tokenise(rows, "predict")

    def _is_streamed(self, path: str) -> bool:
        if self.streaming is not None:
            return self.streaming
        large = is_large(path)
        if large:
            rank_zero_info(f"{path}: {os.path.getsize(path) / 1e6:,.0f} MB, read as it is predicted (data.streaming)")
        return large

    def _labelled(self, table: datasets.Dataset, name: str) -> Rows:
        rows = Rows.labelled(
            table,
            self._origin(name),
            self.label_column,
            self.label_names,
            regression=self.regression,
            negative_is_hidden=self.task is not None,
            query_column=self.query_column,
        )
        if 0 < len(rows) < len(table):
            rank_zero_info(f"{rows.origin}: {len(table) - len(rows)} of {len(table)} rows left out, without a label")
        return rows

    def _require(self, splits: dict[str, Rows], stage: str | None) -> None:
        advice = {
            "train": "no training rows: give train_file or task",
            "val": "no validation rows: give validation_file, or holdout (such as 0.1)",
            "test": "no test rows: give test_file, or validation rows to serve as test",
        }
        for group, text in advice.items():
            if stage is not None and used_by(group, stage) and not any(n.startswith(group) for n in splits):
                raise UserError(text)
        for rows in splits.values():
            if not len(rows):
                raise UserError(f"{rows.origin} has no row with a label in column {self.label_column!r}")

    def _sampled(self, rows: Rows, name: str) -> Rows:
        return rows.sample(self.max_train_samples if name == "train" else self.max_eval_samples, self.seed)

    def _tokenise(self, rows: Rows, name: str) -> TokenisedSplit:
        columns = self._columns(name)
        rows.check_texts(columns, refuse_blank=name != "predict" and bool(self.files))
        self._rows[name] = rows
        return tokenise(rows, self.tokenizer, self.max_length, columns, name)

    def _read(self, name: str) -> tuple[str, ...]:
        """Return the columns of texts and question; a file to predict with a task need not have the latter."""
        query = () if name == "predict" and self.task is not None and self.predict_file else (self.query_column,)
        return tuple(dict.fromkeys(column for column in (*query, *self._columns(name)) if column is not None))

    def _columns(self, name: str) -> tuple[str, ...]:
        return self.predict_columns if name == "predict" and self.predict_file else self.text_columns
