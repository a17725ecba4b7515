"""The rows of text classification: a task of the Hub or the user's own files, ready as batches."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

from mebert.data.checks import (
    check_columns,
    check_metrics,
    check_queries,
    check_several,
    check_source,
    predict_columns,
)
from mebert.data.files import label_form, load_file, own_label_names
from mebert.data.prepared import PreparedSplits
from mebert.data.tasks import RANKING, SEVERAL, Task, find_task, load_task_splits
from mebert.data.tokenizers import DEFAULT_LENGTH, load_tokenizer
from mebert.errors import UserError, check_range

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


class TextSplits(PreparedSplits):
    """Sentences or sentence pairs with labels, tokenised once and batched by length.

    The rows come from a named task of the Hub (`task`) or from the user's own CSV, TSV, JSONL or Parquet files. Rows
    without a label (empty or null; in a task, and beside words, also -1) are dropped for training, validation and test,
    and kept for prediction.

    A subclass brings other data by overriding `load_splits` (and passing `labels`), and another tokenizer by
    overriding `build_tokenizer`; an integer column `difficulty` of its rows reaches the batches.

    Args:
        task: Name in the task table (cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, snli, scitail, wikiqa,
            trecqa, ag_news, dbpedia_14, yahoo, yelp_full, yelp_polarity, imdb, chnsenticorp; ax, to predict with a
            model trained on mnli), or null for own files.
        tokenizer: Hub id or folder of the tokenizer; that of the encoder.
        max_length: Longest input in tokens, special tokens included; longer ones are cut (of a pair, the longer text
            first). Null: as the checkpoint was trained, else 128.
        stride: Read a longer input whole, in windows of `max_length` tokens of which each begins with the last `stride`
            tokens of the one before; its exits are the mean of its windows'. Of a pair the first text stands in each
            window. Null: as the checkpoint was trained, else longer inputs are cut.
        batch_size: Training rows a batch and process.
        eval_batch_size: Rows a batch and process in validation, test and prediction; null for `batch_size`.
        train_file: Own training rows.
        validation_file: Own validation rows.
        test_file: Own test rows.
        predict_file: Rows to predict; labels are not needed. Null predicts the task's test split.
        streaming: Read `predict_file` as it is predicted, a window at a time: memory does not grow with its rows, and a
            malformed line shows when it is reached. Null does so from 100 MB on (Parquet: also from a million rows on);
            smaller files are read and checked at once.
        predict_split: The task's split to predict instead of its first test split, as the Hub names it; several are
            joined by "+" (test_matched+test_mismatched).
        text_column: Column of the (first) text in own files (with a task: in `predict_file`); null for `text`
            (with a task: its own).
        text_pair_column: Column of the second text of a pair in own files; null for none (with a task: its own).
        label_column: Column of the label in own files; with it in a file to predict, `predict` prints the metrics.
        unlabelled_file: Further training texts, whose labels (if any) are not read, for recipes that distil: FastBERT's
            stage 2 and CurriculumDistillModule. Each batch takes, beside its `batch_size` labelled rows, as many of
            them as pass once over the file in an epoch, at most `batch_size`.
        id_columns: Further columns of the rows to predict (a number, a date, the label) that stand beside the answers.
        labels: Label names of own files, in the order of the classes; null reads them from the training file, or with a
            checkpoint takes the model's, which others must not contradict.
        regression: The label column of own files holds numbers to be estimated, not classes.
        label_separator: What parts the labels of a row in own files, such as ",", where a row may have several or none
            of them (an empty cell is a row with none; null, in JSONL and Parquet, one that is not labelled). JSONL and
            Parquet may hold lists instead, which need no separator.
        query_column: Column of own files whose equal values name one question: its rows are answers to be ranked,
            the second class (in a regression: a number above 0) being right. Null where answers are not ranked.
        metrics: Names of the metrics, the main one first (acc, f1, matthews, pearson, spearman; with questions also
            map, mrr, p_at_1; of several labels a row f1_micro, f1_macro, acc); null for the task's own, `map`, `mrr`
            and `p_at_1` for own questions, `acc` for own classes, `f1_micro` and `f1_macro` for several own labels a
            row, `pearson` and `spearman` for own numbers.
        max_train_samples: Keep this many training rows, drawn by `seed`; where answers are ranked this many questions,
            each with all its answers.
        max_eval_samples: The same of each validation and test split.
        holdout: Share of the training rows, drawn by `seed`, that serves as the validation split; the task's
            own validation split then serves as test split where the task hides its test labels.
        test_holdout: Share of the training rows, drawn by `seed`, that serves as the test split; with `holdout` both
            are shares of all rows, and together below 1.
        stratify: Whether both hold every class in the same share, up to a row.
        group_by_length: Put training rows of similar length into one batch (less padding), still shuffled.
        pad_to_multiple_of: Pad each batch to a multiple of this many tokens; null for the longest row.
        num_workers: Processes that build batches; 0 builds them in the main process.
        seed: Determines the order of the rows, `holdout` and the samples.
        do_lower_case: Lower-case the texts; null: as the checkpoint was trained, else as the tokenizer's files say.
        truncation_side: Where longer inputs are cut, `right` or `left`; null: as `do_lower_case`.
        split_special_tokens: Read a special token that is typed in a text (`[SEP]`) as ordinary text; null: as the
            checkpoint was trained (one of mebert 0.1.0: no), else yes, unless the tokenizer's files say no.
    """

    def __init__(
        self,
        task: str | None = None,
        tokenizer: str = "google-bert/bert-base-uncased",
        max_length: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        train_file: str | None = None,
        validation_file: str | None = None,
        test_file: str | None = None,
        predict_file: str | None = None,
        predict_split: str | None = None,
        streaming: bool | None = None,
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
        test_holdout: float = 0.0,
        stratify: bool = False,
        group_by_length: bool = True,
        pad_to_multiple_of: int | None = None,
        num_workers: int = 0,
        seed: int = 42,
        do_lower_case: bool | None = None,
        truncation_side: Literal["right", "left"] | None = None,
        split_special_tokens: bool | None = None,
        id_columns: list[str] | None = None,
        stride: int | None = None,
        label_separator: str | None = None,
        unlabelled_file: str | None = None,
    ) -> None:
        max_length = DEFAULT_LENGTH if max_length is None else max_length
        check_range("batch_size", batch_size, 1, 2**31 - 1)
        check_range("eval_batch_size", eval_batch_size, 1, 2**31 - 1)
        check_range("max_train_samples", max_train_samples, 1)
        check_range("max_eval_samples", max_eval_samples, 1)
        check_range("pad_to_multiple_of", pad_to_multiple_of, 1)
        check_range("max_length", max_length, 8)  # the special tokens and some text
        check_range("stride", stride, 0, max_length, high_open=True)
        if truncation_side not in (None, "right", "left"):
            raise UserError(f"truncation_side must be right or left, got {truncation_side!r}")
        check_range("num_workers", num_workers, 0)
        check_range("seed", seed, 0)
        check_range("holdout", holdout, 0, 1, high_open=True)
        check_range("test_holdout", test_holdout, 0, 1, high_open=True)
        if holdout + test_holdout >= 1:
            raise UserError(f"holdout ({holdout:g}) and test_holdout ({test_holdout:g}) leave no row to train on")
        if test_holdout and test_file is not None:
            raise UserError(f"test_file ({test_file}) and test_holdout ({test_holdout:g}) were both given; give one")
        own_files = {"train_file": train_file, "validation_file": validation_file, "test_file": test_file}
        given_files = [name for name, path in own_files.items() if path is not None]
        check_source(task, given_files, labels is not None or regression, query_column, predict_split)
        if task is not None and label_separator is not None:
            raise UserError(f"label_separator ({label_separator!r}) is for own files; task {task!r} has its own labels")
        check_metrics(metrics)
        if streaming and predict_file is None:
            raise UserError("streaming is for a predict_file; give one, or leave it out")
        super().__init__(
            batch_size, eval_batch_size or batch_size, group_by_length, pad_to_multiple_of, num_workers, seed
        )

        self.task: Task | None = find_task(task) if task is not None else None
        by_split = {"train": train_file, "val": validation_file, "test": test_file}
        self.files = {name: path for name, path in by_split.items() if path is not None}
        self.tokenizer_name = tokenizer
        self.max_length, self.stride = max_length, stride
        self.tokenizer_settings: dict[str, Any] = {
            "do_lower_case": do_lower_case,
            "truncation_side": truncation_side,
            "split_special_tokens": split_special_tokens,
        }
        self.predict_file = predict_file
        self.unlabelled_file = unlabelled_file
        self.predict_split = predict_split
        self.id_columns = tuple(dict.fromkeys(id_columns or ()))
        self.streaming = streaming
        self.max_train_samples = max_train_samples
        self.max_eval_samples = max_eval_samples
        self.holdout = holdout
        self.test_holdout = test_holdout
        self.stratify = stratify

        given_columns = tuple(name for name in (text_column, text_pair_column) if name is not None)
        if self.task is not None:
            self.text_columns: tuple[str, ...] = self.task.text_columns
            self.label_column, self.regression = self.task.label_column, self.task.regression
            self.label_names = list(self.task.label_names)
            self.query_column, own_metrics = self.task.query_column, self.task.metrics
        else:
            self.text_columns = given_columns if text_column is not None else ("text", *given_columns)
            if given_files:  # a text to predict may be called as the label is in training: `load_splits` checks that
                check_columns(self.text_columns, None if predict_file is not None else label_column)
            self.label_column, self.regression = label_column, regression
            self.label_form = label_form(list(self.files.values()), label_column, label_separator)
            several = self.label_form.several
            self.label_names = own_label_names(
                labels, regression, train_file, label_column, query_column is not None, self.label_form
            )
            self.query_column = query_column
            own_metrics = RANKING if query_column else ("pearson", "spearman") if regression else ("acc",)
            own_metrics = SEVERAL if several and not query_column else own_metrics
            check_several(several, regression, query_column, metrics or own_metrics)
        self.predict_columns = predict_columns(given_columns, self.text_columns, self.task)
        self.task_name = self.task.name if self.task is not None else "own"
        self.num_labels = len(self.label_names)
        self.metrics: tuple[str, ...] = tuple(metrics or own_metrics)
        check_queries(self.query_column, self.num_labels, self.metrics)

        if self.task is not None and self.task.validation_splits and not holdout:
            self.validation_names = list(self.task.validation_splits)

    def build_tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.tokenizer_name, **self.tokenizer_settings)

    def load_splits(self, groups: Collection[str]) -> dict[str, datasets.Dataset]:
        if self.task is not None:
            return load_task_splits(self.task, groups, self.predict_split)
        paths = {name: path for name, path in self.files.items() if name in groups}
        if paths:
            check_columns(self.text_columns, self.label_column)
        if "predict" in groups and "test" in self.files:
            paths["predict"] = self.files["test"]
        return {
            name: load_file(
                path, self._columns(name), self.label_column if name != "predict" else None, self.label_form
            )
            for name, path in paths.items()
        }
