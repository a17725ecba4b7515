"""Rows beside which the inspected texts are shown: of the run's own data, a task, or a file.

Shapes: N rows, B batch, E exits, C classes, F features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mebert.commands.inspect.command import InspectSettings
from mebert.commands.inspect.trace import run_exits
from mebert.data.loaders import SplitLoaders, open_split
from mebert.data.model_rows import file_data, run_data, task_data
from mebert.data.scoring import map_rows
from mebert.errors import UserError
from mebert.inference.stream import Text
from mebert.metrics.task import predictions_of
from mebert.models.multi_exit import model_inputs
from mebert.policies import ExitPolicy
from mebert.runtime.progress import Progress
from mebert.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from mebert.commands.inspect.source import Opened

BATCH = 64


@dataclass
class Samples:
    """Rows, `what` in words, and what all exits make of them."""

    what: str
    texts: list[Text]  # empty where the data keeps none
    labels: Tensor  # gold, (N,) int64 (float32 in a regression); of several a row (N, C), 0 or 1
    predictions: Tensor  # class of each exit, (E, N) int64; its estimate (float32) in a regression; or (E, N, C)
    features: Tensor  # pooled, (E, N, F) float32
    exits: Tensor  # 0-based exit that each row takes, (N,) int64

    @property
    def groups(self) -> Tensor:
        """The class of each row, (N,); of several labels the only one that it has, or -1."""
        if self.labels.ndim == 1:
            return self.labels
        return torch.where(self.labels.sum(1) == 1, self.labels.argmax(1), -1)


def run_rows(opened: Opened, policy: ExitPolicy, settings: InspectSettings) -> Samples:
    """Open the rows, draw some of them, and run all exits on these; a UserError if there are none with labels."""
    data = _open(opened, settings)
    split = "val" if settings.file is not None else settings.split
    rows = open_split(data, split)
    if rows.labels is None or not len(rows):
        raise UserError(f"split {split!r} has no labelled rows to show")
    places = np.arange(len(rows))
    if len(rows) > settings.samples:
        places = np.sort(np.random.default_rng(0).permutation(len(rows))[: settings.samples])
    shape = opened.model.logits_shape
    width = math.prod(shape)

    def score(batch: Mapping[str, Tensor]) -> Tensor:
        """Flat logits, the exit taken and features side by side, (B, E, C + 1 + F)."""
        outputs = run_exits(opened.classifier.model, policy, model_inputs(batch))
        exits = outputs.exits.expand(len(outputs.logits), -1).unsqueeze(-1)
        return torch.cat([outputs.logits.flatten(2), exits, outputs.features], -1).transpose(0, 1)

    with Progress("Running rows", -(-len(places) // BATCH)) as bar:
        drawn, device = rows.select(places), opened.classifier.device
        found = map_rows(drawn, data.collate_for(), score, BATCH, device, bar.tick).transpose(0, 1)
    logits, exits, features = found.tensor_split([width, width + 1], -1)
    logits = logits.unflatten(-1, shape)
    of_all = "" if len(places) == len(rows) else f" of {len(rows):,}"
    what = f"{len(places):,}{of_all} rows of " + (settings.file or f"{settings.task or 'the run'}, {split}")
    labels = torch.from_numpy(rows.labels[places])
    return Samples(
        what, row_texts(data, split, places.tolist()), labels, predictions_of(logits), features, exits[0, :, 0].long()
    )


def row_texts(data: SplitLoaders, split: str, places: Sequence[int]) -> list[Text]:
    """The texts of some rows of an opened split; none where the data keeps none."""
    read = getattr(data, "texts", None)
    columns = [] if read is None else read(split, places).values()
    rows = [[text or "" for text in row] for row in zip(*columns, strict=True)]
    return [(row[0], row[1]) if len(row) == 2 else row[0] for row in rows]


def _open(opened: Opened, settings: InspectSettings) -> SplitLoaders:
    """The data module of the rows; a UserError if there is none, or it does not fit the model."""
    if settings.task is not None:
        return task_data(settings.task, opened.tokenizer, opened.model, opened.max_length)
    if settings.file is not None:
        columns = settings.text_column, settings.text_pair_column, settings.label_column
        return file_data(settings.file, opened.tokenizer, opened.model, opened.max_length, *columns)
    if opened.run is None:
        raise UserError(f"{opened.name} is not in the folder of a run: give task or file for rows to show")
    return run_data(str(RunFolder(opened.run).model), opened.model)
