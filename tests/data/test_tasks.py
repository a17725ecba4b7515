"""The task table answers without a download."""

from __future__ import annotations

import pytest

from mebert.data import TextDataModule
from mebert.data.tasks import METRICS, TASKS, find_task
from mebert.errors import UserError


def test_table_holds_glue_snli_scitail_and_answer_selection():
    glue = {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"}
    assert set(TASKS) == glue | {"snli", "scitail", "wikiqa", "trecqa"}
    for name, task in TASKS.items():
        assert task.name == name
        assert len(task.label_names) == (1 if task.regression else len(set(task.label_names)))
        assert set(task.metrics) <= set(METRICS)
        assert 1 <= len(task.text_columns) <= 2


@pytest.mark.parametrize(
    ("name", "main", "labels"),
    [
        ("cola", "matthews", 2),
        ("qqp", "acc", 2),
        ("stsb", "pearson", 1),
        ("mnli", "acc", 3),
        ("scitail", "acc", 2),
        ("wikiqa", "map", 2),
    ],
)
def test_data_module_answers_before_loading(name, main, labels):
    data = TextDataModule(task=name)
    assert (data.metrics[0], data.num_labels, data.task_name) == (main, labels, name)
    assert len(data.label_names) == labels


def test_mnli_validates_matched_and_mismatched():
    assert TextDataModule(task="mnli").validation_names == ["val", "val_mismatched"]
    assert TextDataModule(task="mnli", holdout=0.1).validation_names == ["val"]


def test_unknown_task_names_close_ones():
    with pytest.raises(UserError, match=r"unknown task 'SST-2'.*sst2.*scitail"):
        find_task("SST-2")
    with pytest.raises(UserError, match=r"unknown task 'imagenet'.*mnli"):
        TextDataModule(task="imagenet")
