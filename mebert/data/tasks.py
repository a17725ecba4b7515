"""The task table: where a task is on the Hub, what its columns and labels mean, how it is measured."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from mebert.errors import UserError
from mebert.storage.hub import hub_errors

if TYPE_CHECKING:
    import datasets

RANKING = ("map", "mrr", "p_at_1")
SEVERAL = ("f1_micro", "f1_macro")  # of rows with several labels
METRICS = ("acc", "f1", "matthews", "pearson", "spearman", *SEVERAL, *RANKING)


def _splits(**names: str) -> Mapping[str, str]:
    return MappingProxyType(names)


@dataclass(frozen=True)
class Task:
    """One classification (or, with `regression`, estimation) task of the Hub; nothing is downloaded for it.

    Args:
        name: Name in the task table.
        hub_id: Data set repository.
        config: Configuration of the repository; None for its only one.
        text_columns: One column, or two for a pair.
        label_names: In the order of the class numbers; one name for a regression.
        metrics: The main one first.
        label_column: Holds class numbers, names out of `label_names`, or the number to be estimated.
        regression: The label is a number to be estimated; a negative one means that it is hidden.
        train_split: Name of the training split on the Hub; empty where there is none.
        validation_splits: Stage name to split on the Hub; empty where there is none.
        test_splits: Stage name to split on the Hub.
        public_test_labels: The test splits hold real labels, not -1.
        query_column: In answer selection, the column whose equal values name one question; class 1 is a right answer.
    """

    name: str
    hub_id: str
    config: str | None
    text_columns: tuple[str, ...]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...] = ("acc",)
    label_column: str = "label"
    regression: bool = False
    train_split: str = "train"
    validation_splits: Mapping[str, str] = field(default_factory=lambda: _splits(val="validation"))
    test_splits: Mapping[str, str] = field(default_factory=lambda: _splits(test="test"))
    public_test_labels: bool = False
    query_column: str | None = None


GLUE = "nyu-mll/glue"
SENTENCES = ("sentence1", "sentence2")
PREMISE = ("premise", "hypothesis")
ANSWER = ("question", "answer")
NLI = ("entailment", "neutral", "contradiction")
ENTAILED = ("entailment", "not_entailment")
RELEVANCE = ("irrelevant", "relevant")
SENTIMENT = ("negative", "positive")
STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
DBPEDIA = (
    "Company", "EducationalInstitution", "Artist", "Athlete", "OfficeHolder", "MeanOfTransportation", "Building",
    "NaturalPlace", "Village", "Animal", "Plant", "Album", "Film", "WrittenWork",
)  # fmt: skip
YAHOO = (
    "Society & Culture", "Science & Mathematics", "Health", "Education & Reference", "Computers & Internet", "Sports",
    "Business & Finance", "Entertainment & Music", "Family & Relationships", "Politics & Government",
)  # fmt: skip
# Without a validation split of its own: `holdout` keeps training rows for it.
NO_VALIDATION = _splits()

_TABLE = (
    Task("cola", GLUE, "cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
    Task("sst2", GLUE, "sst2", ("sentence",), SENTIMENT),
    # The one GLUE task whose test labels its authors published.
    Task("mrpc", GLUE, "mrpc", SENTENCES, ("not_equivalent", "equivalent"), ("acc", "f1"), public_test_labels=True),
    Task("qqp", GLUE, "qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("acc", "f1")),
    Task("stsb", GLUE, "stsb", SENTENCES, ("score",), ("pearson", "spearman"), regression=True),
    Task(
        "mnli",
        GLUE,
        "mnli",
        PREMISE,
        NLI,
        validation_splits=_splits(val="validation_matched", val_mismatched="validation_mismatched"),
        test_splits=_splits(test="test_matched", test_mismatched="test_mismatched"),
    ),
    Task("qnli", GLUE, "qnli", ("question", "sentence"), ENTAILED),
    Task("rte", GLUE, "rte", SENTENCES, ENTAILED),
    Task("wnli", GLUE, "wnli", SENTENCES, ("not_entailment", "entailment")),
    # GLUE's diagnostic set: nothing but rows to predict, for a model that has been trained on mnli.
    Task("ax", GLUE, "ax", PREMISE, NLI, ("matthews",), train_split="", validation_splits=NO_VALIDATION),
    Task("snli", "stanfordnlp/snli", "plain_text", PREMISE, NLI, public_test_labels=True),
    Task("scitail", "allenai/scitail", "tsv_format", PREMISE, ("neutral", "entails"), public_test_labels=True),
    Task(
        "wikiqa",
        "microsoft/wiki_qa",
        None,
        ANSWER,
        RELEVANCE,
        RANKING,
        public_test_labels=True,
        query_column="question_id",
    ),
    Task(
        "trecqa",
        "lucadiliello/trecqa",
        None,
        ANSWER,
        RELEVANCE,
        RANKING,
        train_split="train_all",
        validation_splits=_splits(val="dev_clean"),
        test_splits=_splits(test="test_clean"),
        public_test_labels=True,
        query_column="question",  # the set has no column of question numbers
    ),
    *(
        Task(
            name,
            hub_id,
            None,
            texts,
            labels,
            label_column=label_column,
            validation_splits=NO_VALIDATION,
            public_test_labels=True,
        )
        for name, hub_id, texts, labels, label_column in (
            ("ag_news", "fancyzhx/ag_news", ("text",), ("World", "Sports", "Business", "Sci/Tech"), "label"),
            ("dbpedia_14", "fancyzhx/dbpedia_14", ("title", "content"), DBPEDIA, "label"),
            # The column between the two, question_content, is often empty.
            ("yahoo", "community-datasets/yahoo_answers_topics", ("question_title", "best_answer"), YAHOO, "topic"),
            ("yelp_full", "Yelp/yelp_review_full", ("text",), STARS, "label"),
            ("yelp_polarity", "fancyzhx/yelp_polarity", ("text",), SENTIMENT, "label"),
            ("imdb", "stanfordnlp/imdb", ("text",), SENTIMENT, "label"),
        )
    ),
    Task("chnsenticorp", "lansinuote/ChnSentiCorp", None, ("text",), SENTIMENT, public_test_labels=True),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _TABLE})


def find_task(name: str) -> Task:
    """Return the task of that name, or raise a UserError with close matches and all tasks."""
    if name in TASKS:
        return TASKS[name]
    close = difflib.get_close_matches(name.lower().replace("-", "").replace("_", ""), TASKS, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UserError(f"unknown task {name!r}.{hint} Tasks: {', '.join(TASKS)}; or give train_file for your own rows")


def load_hub_dataset(task: Task) -> datasets.DatasetDict:
    """Return all splits of the task as the Hub names them; downloaded once, then from the cache."""
    import datasets

    where = task.hub_id if task.config is None else f"{task.hub_id}, {task.config}"
    with hub_errors(f"the data of task {task.name!r} ({where})"):
        return datasets.load_dataset(task.hub_id, task.config)


def load_task_splits(task: Task, groups: Collection[str], predict_split: str | None) -> dict[str, datasets.Dataset]:
    """Return the splits of the groups (train, val, test, predict) by stage name, those that the data has.

    `predict_split` is the split to predict as the Hub names it, or several joined by "+", which become
    `predict_<split>` each; None for the first test split.
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
