"""Rows beside which the inspected texts are seen: of the run's own data, a task, or a file.

Shapes: N rows, E exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mebert.commands.inspect.settings import RowSource
from mebert.commands.inspect.walk import Walk, walk_exits
from mebert.data.loaders import SplitLoaders, open_split
from mebert.data.model_rows import file_data, run_data, task_data
from mebert.errors import UserError
from mebert.inference.stream import Text
from mebert.models.multi_exit import model_inputs
from mebert.policies import ExitPolicy
from mebert.runtime.progress import Progress

if TYPE_CHECKING:
    from mebert.commands.inspect.source import Opened

__all__ = ["Samples", "find_rows", "run_rows"]

BATCH = 64


@dataclass
class Samples:
    """Rows and what all exits say of them.

    Attributes:
        what: The rows, in words.
        texts: One or two a row; empty where the data keeps none.
        labels: Gold labels, (N,) int64 (float32 in a regression).
        walk: All exits, in the order of the rows.
    """

    what: str
    texts: list[Text]
    labels: Tensor
    walk: Walk

    def __len__(self) -> int:
        return len(self.labels)


def find_rows(opened: Opened, source: RowSource) -> SplitLoaders:
    """The data module of the rows.

    Raises:
        UserError: They cannot be had, or do not fit the model.
    """
    if source.task is not None:
        return task_data(source.task, opened.tokenizer, opened.model, opened.max_length)
    if source.file is not None:
        columns = source.text_column, source.text_pair_column, source.label_column
        return file_data(source.file, opened.tokenizer, opened.model, opened.max_length, *columns)
    if opened.run is None:
        raise UserError(f"{opened.name} is not in the folder of a run: give task or file for rows to show")
    return run_data(str(opened.run / "model"), opened.model)


def run_rows(opened: Opened, policy: ExitPolicy, source: RowSource) -> Samples:
    """Open the rows, draw some of them, and run all exits on these.

    Raises:
        UserError: As `find_rows`, or there is no such split, or it has no labelled row.
    """
    data = find_rows(opened, source)
    split = "val" if source.file is not None else source.split
    rows = open_split(data, split)
    if rows.labels is None or not len(rows):
        raise UserError(f"split {split!r} has no labelled rows to show")
    places = np.arange(len(rows))
    if len(rows) > source.count:
        places = np.sort(np.random.default_rng(0).permutation(len(rows))[: source.count])
    drawn = rows.select(places)
    assert drawn.labels is not None
    order = np.argsort(-drawn.lengths, kind="stable")
    collate, device = data.collate_for(), opened.classifier.device
    parts = []
    with Progress("Running rows", -(-len(order) // BATCH)) as bar:
        for start in range(0, len(order), BATCH):
            batch = collate([drawn[int(row)] for row in order[start : start + BATCH]])
            inputs = {name: value.to(device) for name, value in model_inputs(batch).items()}
            parts.append(walk_exits(opened.classifier.model, policy, inputs))
            bar.tick()
    back = torch.from_numpy(np.argsort(order))  # where each row came in the order of the pass
    whole = source.file or f"{source.task or 'the run'}, {split}"
    of_all = "" if len(places) == len(rows) else f" of {len(rows):,}"
    what = f"{len(places):,}{of_all} rows of {whole}"
    return Samples(what, _texts(data, split, places), torch.from_numpy(drawn.labels), _joined(parts, back))


def _texts(data: SplitLoaders, split: str, places: np.ndarray) -> list[Text]:
    read = getattr(data, "texts", None)
    if read is None:
        return []
    columns: Sequence[Sequence[str | None]] = list(read(split, places.tolist()).values())
    rows = [tuple(text or "" for text in row) for row in zip(*columns, strict=True)]
    return [row[0] if len(row) == 1 else (row[0], row[1]) for row in rows]


def _joined(parts: Sequence[Walk], order: Tensor) -> Walk:
    """Several batches as one, in another order."""
    distances = [part.distances for part in parts if part.distances is not None]
    return Walk(
        logits=torch.cat([part.logits for part in parts], 1)[:, order],
        features=torch.cat([part.features for part in parts], 1)[:, order],
        scores=torch.cat([part.scores for part in parts], 1)[:, order],
        asked=parts[0].asked,
        exits=torch.cat([part.exits for part in parts])[order],
        distances=torch.cat(distances, 1)[:, order] if distances else None,
    )
