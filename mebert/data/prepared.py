"""From raw rows to tokenised splits: labels, hold-out, samples and token ids, prepared once a process."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader
from typing_extensions import override

from mebert.data.checks import check_rankable
from mebert.data.file_rows import column_names, parquet_rows
from mebert.data.files import is_large, load_file
from mebert.data.holdout import assign_roles, groups_to_load, is_used
from mebert.data.label_names import label_text
from mebert.data.rows import Rows, require_columns
from mebert.data.streaming import FileStream, StreamedBatches
from mebert.data.tokenised import Batch
from mebert.data.tokenised_splits import TokenisedSplits, cells_of
from mebert.data.unlabelled import SPLIT as UNLABELLED
from mebert.errors import UserError
from mebert.runtime.messages import rank_zero_info

if TYPE_CHECKING:
    import datasets

# What to do where a command has no rows, by group of splits.
MISSING = {
    "train": "no training rows: give train_file or task",
    "val": "no validation rows: give validation_file, or holdout (such as 0.1)",
    "test": "no test rows: give test_file or test_holdout (such as 0.1), or validation rows to serve as test",
}


class PreparedSplits(TokenisedSplits):
    """Prepares the splits that a command needs; a subclass sets the attributes below and loads the raw rows."""

    unlabelled_file: str | None = None
    streaming: bool | None
    max_train_samples: int | None
    max_eval_samples: int | None
    holdout: float
    test_holdout: float = 0.0
    stratify: bool = False
    id_columns: tuple[str, ...] = ()
    label_column: str
    label_names: list[str]
    metrics: tuple[str, ...]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._prepared: set[str | None] = set()
        self._stream: FileStream | None = None  # of a file to predict that is too large for memory
        self._carried: FileStream | None = None  # of a file to predict: what stands in its table beside the texts
        self._known: FileStream | None = None  # of a file to predict: its labels, if it has any
        # How many rows come from each split, where several are predicted one after the other.
        self.predict_parts: dict[str, int] = {}

    @abstractmethod
    def load_splits(self, groups: Collection[str]) -> dict[str, datasets.Dataset]:
        """Return the raw rows, with the text columns and, where they are known, those of label and question.

        Labels are class numbers or names in `label_names` (numbers to be estimated in a regression; lists of names,
        which may be empty, where `label_form` says that a row has several).

        Args:
            groups: The groups that are needed: train, val, test, predict. More may be returned, and one that the data
                does not have is left out. A key is a group, or a group and a suffix (`val_mismatched`).
        """

    def prepare_data(self) -> None:
        """Load, check and tokenise all that the command needs, so that errors show before training starts."""
        running = None if self.trainer is None else self.trainer.state.fn
        self._prepare(None if running is None else running.value)

    def setup(self, stage: str | None = None) -> None:
        """Do the same on every process, which finds the token ids in the cache."""
        self._prepare(stage)

    @override
    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return batches without labels of the rows to predict, the longest first (of each window, in a stream)."""
        if self._stream is None:
            return super().predict_dataloader()
        args = self._stream, self.tokenizer, self.max_length, self.collate_for(), self.eval_batch_size
        return StreamedBatches(*args, *self._world(), self.stride).loader(self.num_workers)

    def predict_rows(self, indices: Collection[int]) -> dict[str, list[Any]]:
        """Return what stands beside a prediction, by column: `id_columns`, the question that a row answers, the texts.

        Rows are numbered as in `index` of the batches; those of a file with `id_columns`, or streamed, should rise.
        """
        rows = list(indices)
        found = {} if self._carried is None else self._carried.cells(rows)
        if self._stream is not None:
            return found | self._stream.cells(rows)
        columns = self._columns("predict")
        if self._carried is None:
            columns = tuple(dict.fromkeys((*self.id_columns, *columns)))
        return found | cells_of(self._rows_of("predict").table, columns, rows)

    def predict_labels(self, indices: Collection[int]) -> list[Any] | None:
        """Return the labels of rising rows of a file to predict, as texts (None without one); None if it has none.

        Of several labels a row lists of texts.
        """
        if self._known is None:
            return None
        if self.label_form.several:
            cells = map(self.label_form.parts, self._known.cells(list(indices))[self.label_column])
            return [None if parts is None else list(map(label_text, parts)) for parts in cells]
        return [v if v is None else label_text(v) for v in self._known.cells(list(indices))[self.label_column]]

    def _prepare(self, stage: str | None) -> None:
        if stage in self._prepared or None in self._prepared:
            return
        groups = groups_to_load(stage, self.holdout or self.test_holdout)
        if self.predict_file is not None:
            groups = tuple(group for group in groups if group != "predict")
        raw = self.load_splits(groups) if groups else {}
        tables = {name: raw.pop(name) for name in list(raw) if name.startswith("predict")}
        if is_used("predict", stage):
            self._prepare_prediction(tables, required=stage is not None)
        labelled = {name: self._labelled(table, name) for name, table in raw.items()}
        held_out = self.holdout, self.seed, self.files, self.test_holdout, self.stratify
        splits, note = assign_roles(labelled, *held_out)
        if note and is_used("test", stage):
            rank_zero_info(note)
        splits = {name: rows for name, rows in splits.items() if is_used(name, stage)}
        for group, text in MISSING.items():
            if stage is not None and is_used(group, stage) and not any(name.startswith(group) for name in splits):
                raise UserError(text)
        for rows in splits.values():
            if not len(rows):
                raise UserError(f"{rows.origin} has no row with a label in column {self.label_column!r}")
        for name, rows in splits.items():
            if name not in self.splits:
                self.splits[name] = self._tokenise(self._sample(rows, name), name)
                if name != "train":
                    check_rankable(self.splits[name], self.metrics, rows.origin)
        if self.unlabelled_file is not None and is_used("train", stage):
            self._prepare_unlabelled(self.unlabelled_file)
        for names, group in ((self.validation_names, "val"), (self.test_names, "test")):
            names[:] = [name for name in splits if name.startswith(group)] or names
        self._prepared.add(stage)

    def _prepare_unlabelled(self, path: str) -> None:
        rows = Rows.unlabelled(load_file(path, self.text_columns, None), path)
        if not len(rows):
            raise UserError(f"{path} has no rows; leave out data.unlabelled_file")
        rows.check_texts(self.text_columns, refuse_blank=True)
        split = self._tokenise(rows, UNLABELLED)
        first = len(self._rows["train"].table)  # the numbers of training rows go on, so that each row has its own
        self.splits[UNLABELLED] = replace(split, index=first + split.index, difficulty=None)
        rank_zero_info(f"{path}: {len(rows):,} rows without labels (data.unlabelled_file)")

    def _sample(self, rows: Rows, name: str) -> Rows:
        """Keep as many rows, or questions with all their answers, as the user allows; of questions say how many."""
        setting = "max_train_samples" if name == "train" else "max_eval_samples"
        kept = rows.sample(getattr(self, setting), self.seed)
        if kept.queries is not None and len(kept) < len(rows):
            counts = f"{kept.num_queries:,} of {rows.num_queries:,} questions, {len(kept):,} of {len(rows):,} rows"
            rank_zero_info(f"{rows.origin}: {counts} ({setting})")
        return kept

    def _prepare_prediction(self, tables: Mapping[str, datasets.Dataset], required: bool) -> None:
        import datasets

        columns = self._columns("predict")
        if self.predict_file is not None and self._is_streamed(self.predict_file):
            self._stream = FileStream(self.predict_file, columns, self._text_columns("predict"))
            self._stream.check()
        elif self.predict_file is not None:
            rows = Rows.unlabelled(load_file(self.predict_file, columns, None), self.predict_file)
            self.splits["predict"] = self._tokenise(rows, "predict")
        elif tables:
            first, *more = tables.values()
            if not self.files:
                require_columns(first, self.id_columns, self._origin("predict"))
            whole = datasets.concatenate_datasets([first, *more]) if more else first
            self.predict_parts = {name: len(table) for name, table in tables.items()}
            self.splits["predict"] = self._tokenise(Rows.unlabelled(whole, self._origin("predict")), "predict")
        elif required:
            raise UserError("nothing to predict: no test split; give predict_file, or with a task predict_split")
        if (path := self.predict_file or (self.files.get("test") if tables else None)) is not None:
            self._open_beside(path, columns)

    def _open_beside(self, path: str, columns: Sequence[str]) -> None:
        """Find what else of a file to predict is read: the columns to carry along, and labels."""
        if carried := [name for name in self.id_columns if name not in columns]:
            self._carried = FileStream(path, (), (), carried)
            self._carried.check()
        if self.label_column not in columns and self.label_column in column_names(path):
            self._known = FileStream(path, (), (), (self.label_column,))

    def _is_streamed(self, path: str) -> bool:
        if self.streaming is not None:
            return self.streaming
        if large := is_large(path):
            rows = parquet_rows(path)
            size = f"{os.path.getsize(path) / 1e6:,.0f} MB" if rows is None else f"{rows:,} rows"
            rank_zero_info(f"{path}: {size}, read as it is predicted (data.streaming)")
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
            several=self.label_form.several,
        )
        if 0 < len(rows) < len(table):
            rank_zero_info(f"{rows.origin}: {len(table) - len(rows)} of {len(table)} rows left out, without a label")
        if rows.labels is not None and rows.labels.ndim == 2:
            none = int((rows.labels[rows.chosen].sum(1) == 0).sum())
            rank_zero_info(f"{rows.origin}: {none:,} of {len(rows):,} rows have none of the labels")
        return rows
