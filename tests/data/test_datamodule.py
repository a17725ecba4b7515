"""The data module from rows to batches: own files, tasks, prediction, hold-out, cache."""

import numpy as np
import pytest
import torch

from mebert.data import TextDataModule
from mebert.data.rows import stratified
from mebert.errors import UserError

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "mat", "bad", "good", "film", "movie"]


def rows(count, seed=0, labels=("bad", "good")):
    generator = np.random.default_rng(seed)
    return [
        {"text": " ".join(generator.choice(WORDS, generator.integers(1, 12))), "label": labels[i % len(labels)]}
        for i in range(count)
    ]


@pytest.fixture
def own(write, tokenizer_folder):
    """A data module over own files of these rows, ready."""

    def build(stage=None, train=50, validation=20, **settings):
        files = {
            name: write(f"{name}.csv", content if isinstance(content, list) else rows(content, seed))
            for seed, (name, content) in enumerate({"train": train, "validation": validation}.items())
            if content
        }
        given = {f"{name}_file": path for name, path in files.items()}
        data = TextDataModule(**{"tokenizer": tokenizer_folder, "max_length": 32, "batch_size": 8, **given, **settings})
        data.prepare_data() if stage is None else data._prepare(stage)
        data.setup(stage)
        return data

    return build


def indices(loader):
    return torch.cat([batch["index"] for batch in loader]).tolist()


def test_batches_of_own_files(own):
    data = own()
    assert (data.num_labels, data.label_names, data.metrics) == (2, ["bad", "good"], ("acc",))
    batches = list(data.train_dataloader())
    assert len(batches) == 7
    assert sorted(indices(batches)) == list(range(50))
    batch = batches[0]
    assert {name: value.dtype for name, value in batch.items()} == dict.fromkeys(
        ["input_ids", "attention_mask", "token_type_ids", "labels", "index"], torch.int64
    )
    longest = int(batch["attention_mask"].sum(1).max())
    assert batch["input_ids"].shape == (8, longest)
    assert (batch["input_ids"][batch["attention_mask"] == 0] == data.tokenizer.pad_token_id).all()
    assert batch["labels"].tolist() == [index % 2 for index in batch["index"].tolist()]
    (validation,) = data.val_dataloader()
    assert sorted(indices(validation)) == list(range(20))
    lengths = torch.cat([batch["attention_mask"].sum(1) for batch in validation])
    assert (lengths.diff() <= 0).all()


def test_tokens_are_those_of_the_tokenizer(own, write):
    pair = [{"a": "the cat sat " * 20, "b": "a dog ran", "label": i % 2} for i in range(4)]
    data = own(train=pair, validation=None, text_column="a", text_pair_column="b", max_length=16, holdout=0.5)
    batch = next(iter(data.train_dataloader()))
    expected = data.tokenizer(
        pair[0]["a"], pair[0]["b"], truncation="longest_first", max_length=16, return_tensors="pt"
    )
    for name, value in expected.items():
        torch.testing.assert_close(batch[name][:1], value)


def test_padding_rows_are_marked(own, monkeypatch):
    data = own(validation=rows(5))
    monkeypatch.setattr(data, "_world", lambda: (2, 1))
    (batch,) = list(data.val_dataloader()[0])
    assert batch["index"].tolist().count(-1) == 1
    assert batch["index"].shape == batch["labels"].shape == (3,)


def test_token_types_only_where_the_tokenizer_has_them(own, tokenizer_folder):
    from transformers import AutoTokenizer

    class Plain(TextDataModule):
        def build_tokenizer(self):
            return AutoTokenizer.from_pretrained(tokenizer_folder, model_input_names=["input_ids", "attention_mask"])

    files = own().files
    data = Plain(train_file=files["train"], validation_file=files["val"], max_length=32)
    data.setup("fit")
    assert set(next(iter(data.train_dataloader()))) == {"input_ids", "attention_mask", "labels", "index"}


def test_rows_without_a_label_are_left_out_but_predicted(own, write):
    content = rows(10)
    content[3]["label"] = -1
    content[7]["label"] = ""
    data = own(train=content, predict_file=write("predict.csv", content))
    assert sorted(indices(data.train_dataloader())) == [0, 1, 2, 4, 5, 6, 8, 9]
    batches = list(data.predict_dataloader())
    assert sorted(indices(batches)) == list(range(10))
    assert "labels" not in batches[0]
    assert data.predict_rows([3, 0]) == {"text": [content[3]["text"], content[0]["text"]]}


def test_given_label_names_set_the_order(own):
    data = own(labels=["good", "bad", "odd"])
    assert (data.num_labels, data.label_names) == (3, ["good", "bad", "odd"])
    for batch in data.train_dataloader():
        assert batch["labels"].tolist() == [1 - index % 2 for index in batch["index"].tolist()]


def test_regression(own):
    content = [{"text": "the cat", "label": i / 2 - 1} for i in range(8)]
    data = own(train=content, validation=content, regression=True)
    assert (data.num_labels, data.metrics) == (1, ("pearson", "spearman"))
    (batch,) = list(data.train_dataloader())
    assert batch["labels"].dtype == torch.float32
    torch.testing.assert_close(batch["labels"], batch["index"].float() / 2 - 1)


def test_prediction_needs_no_training_file(write, tokenizer_folder):
    path = write("predict.jsonl", [{"text": "the cat"}, {"text": " "}, {"text": None}, {"text": "a " * 50_000}])
    data = TextDataModule(labels=["no", "yes"], predict_file=path, tokenizer=tokenizer_folder, max_length=32)
    with pytest.warns(UserWarning, match=r"2 of 4 texts \(50 %\) are empty or blank, the first at .*line 2"):
        data._prepare("predict")
    (batch,) = list(data.predict_dataloader())
    lengths = dict(zip(batch["index"].tolist(), batch["attention_mask"].sum(1).tolist(), strict=True))
    assert lengths == {3: 32, 0: 4, 1: 2, 2: 2}


def test_sample_and_holdout_are_disjoint_and_drawn_by_the_seed(own):
    given = {"train": 100, "validation": None, "holdout": 0.2, "max_train_samples": 50, "max_eval_samples": 10}
    data = own(**given, seed=5)
    train, held_out = indices(data.train_dataloader()), indices(data.val_dataloader()[0])
    assert (len(train), len(held_out)) == (50, 10)
    assert not set(train) & set(held_out)
    same = own(**given, seed=5)
    assert indices(same.train_dataloader()) == train
    other = own(**given, seed=6)
    assert set(indices(other.train_dataloader())) != set(train)
    assert set(indices(other.val_dataloader()[0])) != set(held_out)


@pytest.mark.parametrize(("holdout", "test_holdout", "sizes"), [(0.2, 0.2, (60, 20, 20)), (0.0, 0.1, (90, 10, 10))])
def test_shares_of_the_training_rows_validate_and_test(own, holdout, test_holdout, sizes):
    """Disjoint, the same in every command, and with every class in proportion: 1 of 10 rows is rare."""
    rows = [{"text": "a cat", "label": "rare" if number % 10 == 0 else "usual"} for number in range(100)]
    given = {"train": rows, "validation": rows[:10] if not holdout else None, "holdout": holdout, "stratify": True}
    data = own("fit", **given, test_holdout=test_holdout)
    parts = [sorted(indices(data.train_dataloader())), sorted(indices(data.val_dataloader()[0]))]
    data.setup("test")
    parts.append(sorted(indices(data.test_dataloader()[0])))
    assert tuple(map(len, parts)) == sizes
    assert not set(parts[0]) & set(parts[2])
    if holdout:
        assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(100))
        assert [sum(number % 10 == 0 for number in part) for part in parts] == [6, 2, 2]
    again = own("test", **given, test_holdout=test_holdout)
    assert sorted(indices(again.test_dataloader()[0])) == parts[2]


def test_a_class_of_one_row_is_trained():
    labels = np.array([0] * 50 + [1])
    for seed in range(20):
        order = stratified(labels, np.random.default_rng(seed).permutation(51), 10)
        assert sorted(order) == list(range(51))
        assert 1 not in labels[order[:10]]


def test_validation_rows_serve_as_test(own):
    data = own("fit", train=40, holdout=0.25)
    assert len(indices(data.val_dataloader()[0])) == 10
    data.setup("test")
    assert data.test_names == ["test"]
    assert sorted(indices(data.test_dataloader()[0])) == list(range(20))


def test_second_run_reads_the_tokens_from_the_cache(own, cache, monkeypatch):
    first = own()
    files = {path: path.stat().st_mtime_ns for path in (cache / "mebert").iterdir()}
    assert len(files) == 2  # the validation rows, which also serve as test, are tokenised once

    def fail(*_, **__):
        raise AssertionError("rows were tokenised again")

    monkeypatch.setattr("mebert.data.tokenised.encode", fail)
    second = own()
    assert {path: path.stat().st_mtime_ns for path in (cache / "mebert").iterdir()} == files
    for one, two in zip(first.train_dataloader(), second.train_dataloader(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("change", [{"max_length": 16}, {"train": 49}, {"max_train_samples": 10}])
def test_other_settings_do_not_read_that_cache(own, cache, change):
    own("fit")
    before = set((cache / "mebert").iterdir())
    own("fit", **change)
    assert set((cache / "mebert").iterdir()) > before


def nli(count, label=None):
    return [
        {"premise": f"the {WORDS[i % 5]}", "hypothesis": "a dog", "label": i % 3 if label is None else label}
        for i in range(count)
    ]


def mnli(hub, tokenizer_folder, **settings):
    hub(
        train=[*nli(30), *nli(3, -1)],
        validation_matched=nli(12),
        validation_mismatched=nli(9),
        test_matched=nli(7, -1),
        test_mismatched=nli(6, -1),
    )
    return TextDataModule(task="mnli", tokenizer=tokenizer_folder, max_length=32, batch_size=4, **settings)


def test_mnli_splits(hub, tokenizer_folder, cache):
    data = mnli(hub, tokenizer_folder)
    assert data.validation_names == ["val", "val_mismatched"], "before loading"
    data.prepare_data()
    data.setup()
    assert [len(indices(loader)) for loader in data.val_dataloader()] == [12, 9]
    assert data.test_names == ["test", "test_mismatched"]
    assert [len(indices(loader)) for loader in data.test_dataloader()] == [12, 9]
    assert len(indices(data.train_dataloader())) == 30
    assert len(indices(data.predict_dataloader())) == 7
    assert data.predict_rows([0]) == {"premise": ["the the"], "hypothesis": ["a dog"]}
    tokens = set((cache / "mebert").iterdir())
    TextDataModule(task="mnli", tokenizer=tokenizer_folder, max_length=32).setup()
    assert set((cache / "mebert").iterdir()) == tokens, "read from the cache"


def test_mnli_holdout_leaves_its_validation_splits_for_the_test(hub, tokenizer_folder):
    data = mnli(hub, tokenizer_folder, holdout=0.2)
    assert data.validation_names == ["val"]
    data.setup("fit")
    data.setup("test")
    assert data.test_names == ["test", "test_mismatched"]
    assert [len(indices(loader)) for loader in data.val_dataloader()] == [6]
    assert [len(indices(loader)) for loader in data.test_dataloader()] == [12, 9]


def test_predict_split_and_predict_file_of_a_task(hub, write, tokenizer_folder):
    data = mnli(hub, tokenizer_folder, predict_split="validation_mismatched")
    data.setup("predict")
    assert len(indices(data.predict_dataloader())) == 9
    with pytest.raises(UserError, match=r"no split 'tset' to predict; its splits: train, validation_matched"):
        mnli(hub, tokenizer_folder, predict_split="tset").setup("predict")
    path = write("mine.jsonl", [{"one": "the cat", "two": "a dog"}])
    data = mnli(hub, tokenizer_folder, predict_file=path, text_column="one", text_pair_column="two")
    data.setup("predict")
    assert data.predict_rows([0]) == {"one": ["the cat"], "two": ["a dog"]}
    with pytest.raises(UserError, match="reads 2 text"):
        mnli(hub, tokenizer_folder, predict_file=path, text_column="one")


def test_public_test_labels_and_label_names_in_the_data(hub, tokenizer_folder):
    pairs = [{"premise": "the cat", "hypothesis": "a dog", "label": name} for name in ("neutral", "entails")]
    hub(train=pairs, validation=pairs, test=[*pairs, pairs[0]])
    data = TextDataModule(task="scitail", tokenizer=tokenizer_folder)
    data.setup()
    (batch,) = list(data.test_dataloader()[0])
    assert sorted(batch["labels"].tolist()) == [0, 0, 1]


def test_blank_text_of_a_task_is_used_with_a_warning(hub, tokenizer_folder):
    pair = {"premise": "", "hypothesis": "a dog", "label": 0}
    hub(train=[pair] * 4, validation_matched=[pair], validation_mismatched=[pair])
    data = TextDataModule(task="mnli", tokenizer=tokenizer_folder)
    with pytest.warns(UserWarning, match=r"4 of 4 texts \(100 %\) are empty or blank.*train split of task 'mnli'"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "mnli", "labels": ["a", "b"]}, "has its own labels"),
        ({"labels": ["a", "a"]}, "two or more different names"),
        ({"task": "mnli", "max_length": 2}, "max_length must be at least 8, got 2"),
        ({"task": "mnli", "truncation_side": "middle"}, "truncation_side must be right or left, got 'middle'"),
        ({"task": "mnli", "holdout": 1.0}, r"holdout must be in \[0, 1\), got 1.0"),
        (
            {"task": "mnli", "holdout": 0.6, "test_holdout": 0.4},
            r"holdout \(0.6\) and test_holdout \(0.4\) leave no row",
        ),
        (
            {"labels": ["a", "b"], "test_file": "t.csv", "test_holdout": 0.4},
            r"test_file \(t.csv\) and test_holdout \(0.4\)",
        ),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(UserError, match=message):
        TextDataModule(**settings)


def test_rows_that_cannot_work(own, write):
    with pytest.raises(UserError, match="nothing to predict"):
        own("predict")
    with pytest.raises(UserError, match="no training rows"):
        own("fit", train=None, labels=["bad", "good"])
    with pytest.raises(UserError, match=r"validation.csv has no row with a label in column 'label'"):
        own("fit", validation=rows(4, labels=(-1,)))
    with pytest.raises(UserError, match=r"test.csv has no row with a label"):
        own("test", test_file=write("test.csv", rows(4, labels=(-1,))))
    with pytest.raises(UserError, match=r"max_length is 256 tokens, but the tokenizer .* allows 128"):
        own("fit", max_length=256)
    with pytest.raises(UserError, match="no predict split is loaded"):
        own("fit").predict_dataloader()


def test_subclass_brings_rows_and_difficulty(tokenizer_folder):
    class Mine(TextDataModule):
        def load_splits(self, groups):
            import datasets

            made = [{"text": "the cat", "label": "yes", "difficulty": 3}, {"text": "a", "label": "no", "difficulty": 1}]
            return {name: datasets.Dataset.from_list(made) for name in groups}

    data = Mine(labels=["no", "yes"], tokenizer=tokenizer_folder)
    data.prepare_data()
    (batch,) = list(data.test_dataloader()[0])
    assert batch["difficulty"].tolist() == [3, 1]
    assert batch["labels"].tolist() == [1, 0]


def test_a_large_hold_out_takes_from_large_classes_before_it_takes_the_only_row_of_a_class():
    labels = np.array([0] * 10 + [1, 2, 3, 4])
    assert labels[stratified(labels, np.arange(14), 9)[:9]].tolist() == [0] * 9
    labels = np.array([0] * 50 + list(range(1, 51)))
    assert labels[stratified(labels, np.arange(100), 10)[:10]].tolist() == [0] * 10
