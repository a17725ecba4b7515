"""Answer selection: rows of one question stay together, and questions that cannot be ranked are marked."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mebert.data import TextDataModule
from mebert.data.rows import hold_out_queries, rankable
from mebert.errors import UserError


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
def test_rankable_questions_are_numbered_from_zero(rows):
    queries, right = (np.asarray(column) for column in zip(*rows, strict=True))
    codes = rankable(queries, right)
    for query in set(queries.tolist()):
        mixed = len(set(right[queries == query].tolist())) == 2
        assert len(set(codes[queries == query].tolist())) == 1
        assert (codes[queries == query][0] >= 0) == mixed
    counted = codes[codes >= 0]
    assert set(counted.tolist()) == set(range(len(set(counted.tolist()))))
    assert len(set(counted.tolist())) == len({q for q, c in zip(queries.tolist(), codes, strict=True) if c >= 0})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 9))
def test_questions_are_held_out_whole_until_there_are_enough_rows(queries, count, seed):
    queries = np.asarray(queries)
    taken = hold_out_queries(queries, count, np.random.default_rng(seed))
    assert all(len(set(taken[queries == query].tolist())) == 1 for query in queries)
    largest = max(int((queries == query).sum()) for query in queries[taken])
    assert taken.sum() - largest < count
    left = set(queries[~taken].tolist())
    assert taken.sum() >= count or len(left) == (len(set(queries.tolist())) > 1)


def answers(questions, each=4, first_right=True):
    """Rows of questions whose first answer alone is right; question 0 has no right answer."""
    return [
        {"qid": f"Q{q}", "text": "the cat sat", "answer": "on the mat", "label": int(a == 0 and q > 0 and first_right)}
        for q in range(questions)
        for a in range(each)
    ]


def own(write, tokenizer_folder, train=12, validation=5, **settings):
    files = {"train_file": write("train.csv", answers(train)), "validation_file": write("val.csv", answers(validation))}
    data = TextDataModule(
        tokenizer=tokenizer_folder, text_pair_column="answer", batch_size=8, query_column="qid", **files, **settings
    )
    data.prepare_data()
    return data


def test_own_files(write, tokenizer_folder):
    data = own(write, tokenizer_folder)
    assert data.metrics == ("map", "mrr", "p_at_1")
    validation = data.splits["val"]
    assert validation.queries.tolist() == [-1] * 4 + [q for q in range(4) for _ in range(4)]
    batch = next(iter(data.train_dataloader()))
    assert batch["query"].dtype == torch.int64
    expected = data.splits["train"].queries[batch["index"].numpy()]
    assert batch["query"].tolist() == expected.tolist()


def test_samples_and_holdout_take_whole_questions(write, tokenizer_folder, caplog):
    data = own(write, tokenizer_folder, max_train_samples=3, max_eval_samples=5)
    assert len(data.splits["train"]) == 12
    assert len(data.splits["val"]) == 20
    assert "train.csv: 3 of 12 questions, 12 of 48 rows (max_train_samples)" in caplog.text
    assert "max_eval_samples" not in caplog.text
    assert (np.diff(data.splits["train"].index.reshape(-1, 4), axis=1) == 1).all()

    held = own(write, tokenizer_folder, holdout=0.2)
    sizes = {name: len(split) for name, split in held.splits.items() if name in ("train", "val")}
    assert sizes == {"train": 36, "val": 12}
    assert (np.diff(held.splits["val"].index.reshape(-1, 4), axis=1) == 1).all()
    with pytest.raises(UserError, match="answers one question only; holdout needs at least 2"):
        own(write, tokenizer_folder, train=1, holdout=0.5, labels=["0", "1"])


def test_split_without_a_question_to_rank(write, tokenizer_folder):
    with pytest.raises(UserError, match=r"val.csv: no query \(4 rows\) has both"):
        own(write, tokenizer_folder, validation=1)
    data = own(write, tokenizer_folder, validation=1, metrics=["acc", "f1"])
    assert data.metrics == ("acc", "f1")
    assert (data.splits["val"].queries == -1).all()


def test_predicted_rows_name_their_question(write, tokenizer_folder):
    data = own(write, tokenizer_folder, predict_file=write("new.csv", answers(2)))
    assert data.predict_rows([4]) == {"qid": ["Q1"], "text": ["the cat sat"], "answer": ["on the mat"]}
    assert "query" not in next(iter(data.predict_dataloader()))


def wikiqa(questions):
    rows = answers(questions)
    for row in rows:
        row |= {"question_id": row.pop("qid"), "question": row.pop("text"), "document_title": "cats"}
    return rows


def test_wikiqa(hub, tokenizer_folder, write):
    hub(train=wikiqa(9), validation=wikiqa(4), test=wikiqa(5))
    data = TextDataModule(task="wikiqa", tokenizer=tokenizer_folder)
    data.prepare_data()
    assert (data.num_labels, data.label_names) == (2, ["irrelevant", "relevant"])
    numbers = {name: int(split.queries.max()) + 1 for name, split in data.splits.items() if name != "predict"}
    assert numbers == {"train": 8, "val": 3, "test": 4}
    assert data.predict_rows([0]) == {"question_id": ["Q0"], "question": ["the cat sat"], "answer": ["on the mat"]}
    new = write("new.csv", [{"question": "the cat", "answer": "sat"}])  # needs no question id
    data = TextDataModule(task="wikiqa", tokenizer=tokenizer_folder, predict_file=new)
    data.setup("predict")
    assert data.predict_rows([0]) == {"question": ["the cat"], "answer": ["sat"]}


def test_trecqa_groups_by_the_text_of_the_question(hub, tokenizer_folder):
    rows = [
        {"question": question, "answer": "on the mat", "label": label, "key": 7}
        for question in ("the cat sat", "a dog ran")
        for label in (1, 0, 0)
    ]
    hub(train_all=rows, dev_clean=rows, test_clean=rows)
    data = TextDataModule(task="trecqa", tokenizer=tokenizer_folder)
    data.prepare_data()
    assert data.splits["test"].queries.tolist() == [0] * 3 + [1] * 3
    assert list(data.predict_rows([0])) == ["question", "answer"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"task": "wikiqa", "query_column": "qid"}, r"query_column \(qid\) is for own files"),
        ({"labels": ["a", "b", "c"], "query_column": "qid"}, r"needs two classes.*there are 3"),
        ({"task": "mrpc", "metrics": ["acc", "mrr"]}, r"'mrr' ranks the documents"),
    ],
)
def test_mistakes_are_named(settings, text):
    with pytest.raises(UserError, match=text):
        TextDataModule(**settings)
