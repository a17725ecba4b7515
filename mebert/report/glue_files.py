"""The files that GLUE's server takes: one for each test split, with a header and each task's own labels.

Source: gluebenchmark.com (Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language
Understanding", ICLR 2019): `index<TAB>prediction`, indices from 0 in the order of the test rows; EXACT.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mebert.data.tasks import TASKS, Task
from mebert.errors import UserError
from mebert.storage.atomic import atomic_path

HEADER = "index\tprediction"
BY_NAME = ("mnli", "ax", "qnli", "rte")  # the others take class numbers, which are those of our task table
LOWEST, HIGHEST = 0.0, 5.0  # of STS-B


class GlueFile(NamedTuple):
    """A file of a submission."""

    task: str  # name in the task table
    split: str  # test split, as the Hub names it
    name: str
    rows: int  # of the test set, which the server expects


GLUE_FILES = (
    GlueFile("cola", "test", "CoLA.tsv", 1063),
    GlueFile("sst2", "test", "SST-2.tsv", 1821),
    GlueFile("mrpc", "test", "MRPC.tsv", 1725),
    GlueFile("stsb", "test", "STS-B.tsv", 1379),
    GlueFile("qqp", "test", "QQP.tsv", 390_965),
    GlueFile("mnli", "test_matched", "MNLI-m.tsv", 9796),
    GlueFile("mnli", "test_mismatched", "MNLI-mm.tsv", 9847),
    GlueFile("qnli", "test", "QNLI.tsv", 5463),
    GlueFile("rte", "test", "RTE.tsv", 3000),
    GlueFile("wnli", "test", "WNLI.tsv", 146),
    GlueFile("ax", "test", "AX.tsv", 1104),
)


def glue_splits(task: str | None, given: str | None = None) -> str:
    """The test splits of a task that are submitted, joined by "+", or those that the user has `given` of them."""
    there = [file.split for file in GLUE_FILES if file.task == task]
    if not there:
        names = ", ".join(dict.fromkeys(file.task for file in GLUE_FILES))
        what = "other data" if task is None else f"the task {task!r}"
        raise UserError(f"predictions.format glue is for GLUE's tasks, not for {what}; give --data.task of {names}")
    wrong = [split for split in (given or "").split("+") if split and split not in there]
    if wrong:
        raise UserError(
            f"predictions.format glue writes the test rows of {task!r} ({', '.join(there)}), not {wrong[0]!r}"
        )
    return given or "+".join(there)


def write_glue_files(
    folder: Path, task: str, parts: Mapping[str, int], predictions: Sequence[int] | Sequence[float]
) -> list[GlueFile]:
    """Write a task's predictions, one file for each test split, into a folder; returns the files.

    `parts` are the test splits and their rows, in the order of the predictions (N,): class numbers of the task table,
    or the values of a regression.
    """
    if sum(parts.values()) != len(predictions):
        raise UserError(
            f"predictions.format glue needs a prediction for each of the {sum(parts.values()):,} test rows, and "
            f"{len(predictions):,} were predicted; leave out trainer.limit_predict_batches"
        )
    files = {file.split: file for file in GLUE_FILES if file.task == task}
    texts = iter([_text(TASKS[task], value) for value in predictions])
    for split, rows in parts.items():
        lines = [f"{index}\t{text}" for index, text in enumerate(islice(texts, rows))]
        with atomic_path(folder / files[split].name) as unfinished:
            unfinished.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8", newline="\n")
    return [files[split] for split in parts]


def submission_size_notes(files: Sequence[GlueFile], rows: Sequence[int]) -> list[str]:
    """A line for each file whose number of rows is not that of GLUE's test set."""
    return [
        f"{file.name} has {count:,} rows, but GLUE's test set has {file.rows:,}: the server will refuse it"
        for file, count in zip(files, rows, strict=True)
        if count != file.rows
    ]


def missing_files(folder: Path) -> list[str]:
    """Names of the files that a folder lacks for a complete submission."""
    return [file.name for file in GLUE_FILES if not (folder / file.name).is_file()]


def _text(task: Task, value: float) -> str:
    if task.regression:
        if not math.isfinite(value):
            raise UserError(f"the model estimates {value} for a row of {task.name!r}; GLUE takes numbers from 0 to 5")
        return f"{min(max(value, LOWEST), HIGHEST):.4f}"
    return task.label_names[int(value)] if task.name in BY_NAME else str(int(value))
