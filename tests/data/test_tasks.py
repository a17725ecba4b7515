"""The task table answers without a download."""

import pytest

from mebert.data import TextDataModule
from mebert.data.tasks import METRICS, TASKS, find_task
from mebert.errors import UserError


def test_table_holds_glue_snli_scitail_answer_selection_topics_and_sentiment():
    glue = {"cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"}
    topics = {"ag_news", "dbpedia_14", "yahoo", "yelp_full", "yelp_polarity", "imdb", "chnsenticorp"}
    assert set(TASKS) == glue | {"ax"} | {"snli", "scitail", "wikiqa", "trecqa"} | topics
    for name, task in TASKS.items():
        assert task.name == name
        assert len(task.label_names) == (1 if task.regression else len(set(task.label_names)))
        assert set(task.metrics) <= set(METRICS)
        assert 1 <= len(task.text_columns) <= 2


@pytest.mark.parametrize(
    ("name", "main", "labels"),
    [("cola", "matthews", 2), ("stsb", "pearson", 1), ("mnli", "acc", 3), ("wikiqa", "map", 2), ("yahoo", "acc", 10)],
)
def test_data_module_knows_the_task_before_loading(name, main, labels):
    data = TextDataModule(task=name)
    assert (data.metrics[0], data.num_labels, data.task_name) == (main, labels, name)


def test_unknown_task_names_close_ones():
    with pytest.raises(UserError, match=r"unknown task 'SST-2'.*sst2.*scitail"):
        find_task("SST-2")
    with pytest.raises(UserError, match=r"unknown task 'imagenet'.*mnli"):
        TextDataModule(task="imagenet")
