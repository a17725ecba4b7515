"""The metrics of predictions whose labels are known, added up while a table is written. Shapes: N rows, C classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mebert.data.labels import encode_label_sets, encode_labels
from mebert.data.rows import rankable
from mebert.errors import UserError
from mebert.metrics.formulas import CLASS_METRICS
from mebert.metrics.task import VALUE_METRICS, confusion_matrix, metric_value, of_confusion, of_label_sets


class PredictionScore:
    """The metrics of the rows that have a label, of any number of rows where only classes are counted.

    Args:
        metrics: Names, as in `mebert.metrics.task`.
        label_names: C names; of a regression one.
        query_column: Column of the question that a row answers, for metrics of a ranking.
        several: Whether a row may have several labels.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        label_names: Sequence[str],
        query_column: str | None = None,
        several: bool = False,
    ) -> None:
        self.metrics, self.query_column = tuple(metrics), query_column
        self.names = [str(name) for name in label_names]
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self.several = several
        self._sets: list[tuple[Tensor, Tensor]] = []  # predicted and true sets of labels, (n, C) each
        self._confusion = torch.zeros(len(self.names), len(self.names), dtype=torch.int64)
        self._kept: list[tuple[np.ndarray, np.ndarray, list[Any]]] = []  # what other metrics need of each row
        self.rows = self._labelled = 0  # all rows, and those with a label
        self._fault = ""

    def add(self, labels: Sequence[Any], columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows: labels as a file has them, and the columns of the table of predictions with those of the file.

        A label is a text, of several a row a list of texts; None where there is none.
        """
        first, regression = self.rows + 1, len(self.names) == 1
        self.rows += len(labels)

        def place(row: int) -> str:
            return f"row {first + row}"

        try:
            if self.several:
                known, has_label = encode_label_sets(labels, self.names, place)
                predicted, _ = encode_label_sets(columns["labels"], self.names, place)
            else:
                known, has_label = encode_labels(labels, self.names, place, regression=regression)
        except UserError as error:  # predictions need no labels
            self._fault = self._fault or str(error)
            return
        self._labelled += int(has_label.sum())
        if self.several:
            self._sets.append((torch.from_numpy(predicted[has_label]), torch.from_numpy(known[has_label])))
            return
        if regression:
            scores = np.asarray(columns["score"], dtype=np.float32)[:, None]
        else:
            numbers = torch.tensor([self._numbers[name] for name in columns["label"]])
            of_label = torch.from_numpy(has_label)
            self._confusion += confusion_matrix(numbers[of_label], torch.from_numpy(known)[of_label], len(self.names))
            if set(self.metrics) <= set(CLASS_METRICS):
                return
            with np.errstate(divide="ignore"):  # a probability may be 0
                scores = np.log(np.stack([columns[f"prob_{name}"] for name in self.names], 1).astype(np.float32))
        queries = columns.get(self.query_column or "", ())
        asked = [query for query, counts in zip(queries, has_label, strict=False) if counts]
        self._kept.append((known[has_label], scores[has_label], asked))

    def line(self) -> str:
        """The metrics in words, or why there are none."""
        if self._fault:
            return f"not measured: {self._fault}"
        if not self._labelled:
            return "not measured: no row has a label"
        some = "" if self._labelled == self.rows else f" of {self.rows:,}"
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.values().items())
        return f"{figures} on the {self._labelled:,}{some} rows with a label"

    def values(self) -> dict[str, float]:
        """The metrics of the rows with a label; without those that need questions where a file names none."""
        if self.several:
            sets = [torch.cat(side) for side in zip(*self._sets, strict=True)]
            return {name: of_label_sets(name, *sets) for name in self.metrics}
        found = {name: of_confusion(name, self._confusion) for name in self.metrics if name in CLASS_METRICS}
        others = [name for name in self.metrics if name not in CLASS_METRICS] if self._kept else []
        if others:
            labels = torch.from_numpy(np.concatenate([known for known, _, _ in self._kept]))
            scores = torch.from_numpy(np.concatenate([values for _, values, _ in self._kept]))
            asked = np.asarray([query for _, _, queries in self._kept for query in queries], dtype=str)
            questions = torch.from_numpy(rankable(asked, labels.numpy() > 0)) if len(asked) else None
            ranked = [name for name in others if questions is not None or name in VALUE_METRICS]
            found |= {name: metric_value(name, scores, labels, questions) for name in ranked}
        return {name: found[name] for name in self.metrics if name in found}
