"""Rows beside which the inspected texts are shown: of the run's own data, a task, or a file.

Shapes: N rows, E exits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mebert.commands.inspect.settings import InspectSettings
from mebert.commands.inspect.trace import ExitPass, run_exits
from mebert.data.loaders import SplitLoaders, open_split
from mebert.data.model_rows import file_data, run_data, task_data
from mebert.errors import UserError
from mebert.inference.stream import Text
from mebert.models.multi_exit import model_inputs
from mebert.policies import ExitPolicy
from mebert.runtime.progress import Progress
from mebert.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from mebert.commands.inspect.source import Opened

BATCH = 64


@dataclass
class Samples:
    """Rows and the outputs of all exits for them.

    Attributes:
        what: The rows, in words.
        texts: Empty where the data keeps none.
        labels: Gold labels, (N,) int64 (float32 in a regression).
    """

    what: str
    texts: list[Text]
    labels: Tensor
    outputs: ExitPass

    def __len__(self) -> int:
        return len(self.labels)


def find_rows(opened: Opened, settings: InspectSettings) -> SplitLoaders:
    """The data module of the rows; a UserError if there is none, or it does not fit the model."""
    if settings.task is not None:
        return task_data(settings.task, opened.tokenizer, opened.model, opened.max_length)
    if settings.file is not None:
        columns = settings.text_column, settings.text_pair_column, settings.label_column
        return file_data(settings.file, opened.tokenizer, opened.model, opened.max_length, *columns)
    if opened.run is None:
        raise UserError(f"{opened.name} is not in the folder of a run: give task or file for rows to show")
    return run_data(str(RunFolder(opened.run).model), opened.model)


def run_rows(opened: Opened, policy: ExitPolicy, settings: InspectSettings) -> Samples:
    """Open the rows, draw some of them, and run all exits on these; a UserError if there are none with labels."""
    data = find_rows(opened, settings)
    split = "val" if settings.file is not None else settings.split
    rows = open_split(data, split)
    if rows.labels is None or not len(rows):
        raise UserError(f"split {split!r} has no labelled rows to show")
    places = np.arange(len(rows))
    if len(rows) > settings.samples:
        places = np.sort(np.random.default_rng(0).permutation(len(rows))[: settings.samples])
    drawn = rows.select(places)
    order = np.argsort(-drawn.lengths, kind="stable")
    collate, device = data.collate_for(), opened.classifier.device
    parts = []
    with Progress("Running rows", -(-len(order) // BATCH)) as bar:
        for start in range(0, len(order), BATCH):
            batch = collate([drawn[int(row)] for row in order[start : start + BATCH]])
            inputs = {name: value.to(device) for name, value in model_inputs(batch).items()}
            parts.append(run_exits(opened.classifier.model, policy, inputs))
            bar.tick()
    outputs = ExitPass.concatenate(parts, torch.from_numpy(np.argsort(order)))
    of_all = "" if len(places) == len(rows) else f" of {len(rows):,}"
    what = f"{len(places):,}{of_all} rows of " + (settings.file or f"{settings.task or 'the run'}, {split}")
    return Samples(what, _texts(data, split, places), torch.from_numpy(rows.labels[places]), outputs)


def _texts(data: SplitLoaders, split: str, places: np.ndarray) -> list[Text]:
    read = getattr(data, "texts", None)
    columns = [] if read is None else list(read(split, places.tolist()).values())
    rows = [tuple(text or "" for text in row) for row in zip(*columns, strict=True)]
    return [row[0] if len(row) == 1 else (row[0], row[1]) for row in rows]
