"""The raw splits of a task, from the Hub or its cache."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mebert.data.tasks import Task
from mebert.errors import UserError
from mebert.hub import hub_errors

if TYPE_CHECKING:
    import datasets

__all__ = ["load_hub_dataset", "load_task_splits"]


def load_hub_dataset(task: Task) -> datasets.DatasetDict:
    """Return all splits of the task as the Hub names them; downloaded once, then from the cache.

    Raises:
        UserError: The Hub, or the data set on it, cannot be had.
    """
    import datasets

    where = task.hub_id if task.config is None else f"{task.hub_id}, {task.config}"
    with hub_errors(f"the data of task {task.name!r} ({where})"):
        return datasets.load_dataset(task.hub_id, task.config)


def load_task_splits(task: Task, groups: Collection[str], predict_split: str | None) -> dict[str, datasets.Dataset]:
    """Return the splits of the groups by stage name; a split that the data does not have is left out.

    Args:
        task: The task.
        groups: Of train, val, test, predict.
        predict_split: The split to predict as the Hub names it, or several joined by "+", which become
            `predict_<split>` each; None for the first test split.

    Raises:
        UserError: The data has no split `predict_split`.
    """
    there = load_hub_dataset(task)
    wanted: dict[str, str] = {}
    if "train" in groups and task.train_split:
        wanted["train"] = task.train_split
    if "val" in groups:
        wanted |= task.validation_splits
    if "test" in groups:
        wanted |= task.test_splits
    if "predict" in groups:
        given = [] if predict_split is None else predict_split.split("+")
        for split in given:
            if split not in there or given.count(split) > 1:
                names, fault = ", ".join(there), "names twice the" if split in there else "has no"
                raise UserError(f"task {task.name!r} {fault} split {split!r} to predict; its splits: {names}")
        splits = given or [next(iter(task.test_splits.values()))]
        wanted |= {"predict": splits[0]} if len(splits) == 1 else {f"predict_{split}": split for split in splits}
    return {name: there[split] for name, split in wanted.items() if split in there}
