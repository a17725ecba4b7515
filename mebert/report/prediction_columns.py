"""The columns of a table of predictions, block by block. Shapes: N rows, C labels, E exits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mebert.data.columns import rename_taken, tell_renamed
from mebert.report.prediction_score import PredictionScore

if TYPE_CHECKING:
    import pyarrow as pa


def prediction_columns(model: Any, rows: Mapping[str, Tensor]) -> dict[str, Any]:
    """The columns of the table but the texts."""
    table: dict[str, Any] = {"index": rows["index"].numpy()}
    if model.num_labels == 1:
        table["score"] = rows["label"].float().numpy()
    else:
        if model.multi_label:
            table["labels"] = _label_sets(model.label_names, rows["label"])
        else:
            table["label"] = [model.label_names[label] for label in rows["label"].tolist()]
        for c, name in enumerate(model.label_names):
            table[f"prob_{name}"] = rows["probabilities"][:, c].float().numpy()
    return table | {"exit": rows["exit"].numpy()}


def _label_sets(names: Sequence[str], chosen: Tensor) -> Any:
    """The names of the labels (N, C), 0 or 1, of each row, as an Arrow array whose type is known without any."""
    import pyarrow as pa

    sets = [[names[number] for number in row.nonzero().flatten().tolist()] for row in chosen]
    return pa.array(sets, pa.list_(pa.string()))


def with_input(data: Any, tables: Iterator[pa.Table], score: PredictionScore) -> Iterator[dict[str, list[Any]]]:
    """The tables with what stands beside the predictions behind the number; known labels are added to the score."""
    read_beside, read_labels = getattr(data, "predict_rows", None), getattr(data, "predict_labels", None)
    names: dict[str, str] = {}
    for table in tables:
        columns = table.to_pydict()
        index = columns.pop("index")
        beside = {} if read_beside is None else read_beside(index)
        if beside and not names:
            names = rename_taken(beside, table.column_names)
            tell_renamed(names)
        if read_labels is not None and (labels := read_labels(index)) is not None:
            score.add(labels, beside | columns)
        yield {"index": index} | {names[name]: list(values) for name, values in beside.items()} | columns


def counted(tables: Iterator[pa.Table], at_exits: np.ndarray) -> Iterator[pa.Table]:
    """The same tables, their rows added to those of each exit, (E,)."""
    for table in tables:
        at_exits += np.bincount(table["exit"].to_numpy() - 1, minlength=len(at_exits))
        yield table
