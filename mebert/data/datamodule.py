"""The data module of text classification: a task of the Hub or the user's own files, ready as batches."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_info

from mebert.data.arrange import arrange, groups_for, used_by
from mebert.data.checks import (
    check_columns,
    check_metrics,
    check_queries,
    check_ranges,
    check_rankable,
    check_sizes,
    check_source,
)
from mebert.data.files import load_file, own_label_names
from mebert.data.hub_task import load_task_splits
from mebert.data.loaders import SplitLoaders
from mebert.data.rows import Rows
from mebert.data.tasks import RANKING, Task, find_task
from mebert.data.tokenised import TokenisedSplit, check_tokenizer, load_tokenizer, tokenise
from mebert.errors import UserError

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

__all__ = ["TextDataModule"]

SPLIT_OF = {"train_file": "train", "validation_file": "val", "test_file": "test"}


class TextDataModule(SplitLoaders):
    """Sentences or sentence pairs with labels, tokenised once and batched by length.

    The rows come from a named task of the Hub (`task`) or from the user's own CSV, TSV, JSONL or Parquet
    files. Rows without a label (-1, empty or null) are dropped for training, validation and test, and kept
    for prediction.

    A subclass brings other data by overriding `load_splits` (and passing `labels`), and another tokenizer by
    overriding `build_tokenizer`; an integer column `difficulty` of its rows reaches the batches.

    Args:
        task: Name in the task table (cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, snli, scitail, wikiqa,
            trecqa), or null for own files.
        tokenizer: Hub id or folder of the tokenizer; that of the encoder.
        max_length: Longest input in tokens, special tokens included; longer ones are cut (of a pair, the
            longer text first).
        batch_size: Training rows a batch and process.
        eval_batch_size: Rows a batch and process in validation, test and prediction; null for `batch_size`.
        train_file: Own training rows.
        validation_file: Own validation rows.
        test_file: Own test rows.
        predict_file: Rows to predict; labels are not needed. Null predicts the task's test split.
        predict_split: The task's split to predict instead of its first test split, as the Hub names it.
        text_column: Column of the (first) text in own files (with a task: in `predict_file`); null for `text`
            (with a task: its own).
        text_pair_column: Column of the second text of a pair in own files; null for none (with a task:
            its own).
        label_column: Column of the label in own files.
        labels: Label names of own files, in the order of the classes; null reads them from the training file.
        regression: The label column of own files holds numbers to be estimated, not classes.
        query_column: Column of own files whose equal values name one question: its rows are answers to be ranked,
            the second class (in a regression: a number above 0) being right. Null where answers are not ranked.
        metrics: Names of the metrics, the main one first (acc, f1, matthews, pearson, spearman; with questions
            also map, mrr, p_at_1); null for the task's own, `map`, `mrr` and `p_at_1` for own questions, `acc`
            for own classes, `pearson` and `spearman` for own numbers.
        max_train_samples: Keep this many training rows, drawn by `seed` (of questions: whole ones, until there are
            as many rows; so too below).
        max_eval_samples: Keep this many rows of each validation and test split, drawn by `seed`.
        holdout: Share of the training rows, drawn by `seed`, that serves as the validation split; the task's
            own validation split then serves as test split where the task hides its test labels.
        group_by_length: Put training rows of similar length into one batch (less padding), still shuffled.
        pad_to_multiple_of: Pad each batch to a multiple of this many tokens; null for the longest row.
        num_workers: Processes that build batches; 0 builds them in the main process.
        seed: Determines the order of the rows, `holdout` and the samples.
    """

    def __init__(
        self,
        task: str | None = None,
        tokenizer: str = "google-bert/bert-base-uncased",
        max_length: int = 128,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        train_file: str | None = None,
        validation_file: str | None = None,
        test_file: str | None = None,
        predict_file: str | None = None,
        predict_split: str | None = None,
        text_column: str | None = None,
        text_pair_column: str | None = None,
        label_column: str = "label",
        labels: list[str] | None = None,
        regression: bool = False,
        query_column: str | None = None,
        metrics: list[str] | None = None,
        max_train_samples: int | None = None,
        max_eval_samples: int | None = None,
        holdout: float = 0.0,
        group_by_length: bool = True,
        pad_to_multiple_of: int | None = None,
        num_workers: int = 0,
        seed: int = 42,
    ) -> None:
        super().__init__(
            batch_size, eval_batch_size or batch_size, group_by_length, pad_to_multiple_of, num_workers, seed
        )
        own_files = {"train_file": train_file, "validation_file": validation_file, "test_file": test_file}
        self.files = {SPLIT_OF[name]: path for name, path in own_files.items() if path is not None}
        check_sizes(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            max_train_samples=max_train_samples,
            max_eval_samples=max_eval_samples,
            pad_to_multiple_of=pad_to_multiple_of,
        )
        check_ranges(max_length=max_length, holdout=holdout, num_workers=num_workers, seed=seed)
        check_source(
            task=task,
            files=[name for name, path in own_files.items() if path is not None],
            own_labels=labels is not None or regression,
            query_column=query_column,
            predict_split=predict_split,
        )
        check_metrics(metrics)

        self.task: Task | None = find_task(task) if task is not None else None
        self.tokenizer_name = tokenizer
        self.max_length = max_length
        self.predict_file = predict_file
        self.predict_split = predict_split
        self.max_train_samples = max_train_samples
        self.max_eval_samples = max_eval_samples
        self.holdout = holdout

        given_columns = tuple(name for name in (text_column, text_pair_column) if name is not None)
        if self.task is not None:
            self.text_columns: tuple[str, ...] = self.task.text_columns
            self.label_column, self.regression = self.task.label_column, self.task.regression
            self.label_names = list(self.task.label_names)
            self.query_column, own_metrics = self.task.query_column, self.task.metrics
        else:
            self.text_columns = given_columns if text_column is not None else ("text", *given_columns)
            self.label_column, self.regression = label_column, regression
            self.label_names = own_label_names(labels, regression, train_file, label_column)
            self.query_column = query_column
            own_metrics = RANKING if query_column else ("pearson", "spearman") if regression else ("acc",)
        self.predict_columns = check_columns(given_columns, self.text_columns, self.task)
        self.task_name = self.task.name if self.task is not None else "own"
        self.num_labels = len(self.label_names)
        self.metrics: tuple[str, ...] = tuple(metrics or own_metrics)
        check_queries(self.query_column, self.num_labels, self.metrics)

        if self.task is not None and not holdout:
            self.validation_names = list(self.task.validation_splits)
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._prepared: set[str | None] = set()
        self._rows: dict[str, Rows] = {}
        self._predicted: Rows | None = None

    def build_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer; called once a process, on rank 0 first."""
        return load_tokenizer(self.tokenizer_name)

    def load_splits(self, groups: Collection[str]) -> dict[str, datasets.Dataset]:
        """Return the raw rows, with the text columns and, where they are known, those of label and question.

        Labels are class numbers or names in `label_names` (numbers to be estimated in a regression).

        Args:
            groups: What is needed now, of train, val, test, predict; more may be returned, and what the data
                does not have is left out. A key is a group or a group and a suffix (`val_mismatched`).
        """
        if self.task is not None:
            return load_task_splits(self.task, groups, self.predict_split)
        paths = {name: path for name, path in self.files.items() if name in groups}
        if "predict" in groups and "test" in self.files:
            paths["predict"] = self.files["test"]
        return {
            name: load_file(path, self._read(name), self.label_column if name != "predict" else None)
            for name, path in paths.items()
        }

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
            indices: Row numbers as in `index` of the batches.
        """
        self.split("predict")
        assert self._predicted is not None
        names = list(self._read("predict"))
        chosen = self._predicted.table.select_columns(names)[list(indices)]
        return {name: list(chosen[name]) for name in names}

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
        if used_by("predict", stage):
            self._prepare_prediction(raw.pop("predict", None), required=stage is not None)
        raw.pop("predict", None)
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

    def _prepare_prediction(self, table: datasets.Dataset | None, required: bool) -> None:
        if self.predict_file is not None:
            rows = Rows.unlabelled(load_file(self.predict_file, self._read("predict"), None), self.predict_file)
        elif table is not None:
            rows = Rows.unlabelled(table, self._origin("predict"))
        elif required:
            raise UserError("nothing to predict: no test split; give predict_file, or with a task predict_split")
        else:
            return
        self._predicted = rows
        self.splits["predict"] = self._tokenise(rows, "predict")

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
