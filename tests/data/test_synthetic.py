"""The built-in entailment task: right labels, balance, no shortcut beyond difficulty 1, a working data module."""

import itertools
from collections import Counter

import numpy as np
import pytest

from mebert.data import SyntheticEntailmentDataModule
from mebert.data.synthetic import synthetic_splits, synthetic_tokenizer
from mebert.data.synthetic_grammar import LABEL_NAMES, TAXONOMY, WORDS, examples
from mebert.errors import UserError

LEAVES = [kind for kind in TAXONOMY if kind not in TAXONOMY.values()]


def facts_of(premise):
    return [fact.split() for fact in premise.split("  ")]


def verdict(possible):
    """Possible truth values of the hypothesis, over all worlds of the premise, to a label."""
    possible = set(possible)
    assert possible, "the premise contradicts itself"
    return {(True,): "entailment", (False,): "contradiction", (False, True): "neutral"}[tuple(sorted(possible))]


def ability_oracle(premise, hypothesis):
    """Try every assignment of the asked ability to the people, and keep those that fit the facts."""
    asked_name, asked_side, asked_ability = hypothesis.split()
    facts = facts_of(premise)
    linked = {b for _, verb, b in facts if verb in ("matches", "opposes")}
    people = sorted({asked_name, *linked, *(fact[0] for fact in facts)})

    def fits(world):
        for a, verb, b in facts:
            if verb in ("matches", "opposes"):
                if (world[a] == world[b]) != (verb == "matches"):
                    return False
            elif b == asked_ability and world[a] != (verb == "can"):
                return False
        return True

    worlds = (dict(zip(people, sides, strict=True)) for sides in itertools.product((False, True), repeat=len(people)))
    return verdict(world[asked_name] == (asked_side == "can") for world in worlds if fits(world))


def kinds_oracle(premise, hypothesis):
    """Try every world in which none, some or all members of each narrowest kind have the asked ability."""
    asked, asked_kind, ability = hypothesis.split()

    def members(kind):
        narrower = [k for k, parent in TAXONOMY.items() if parent == kind]
        return [kind] if not narrower else [leaf for k in narrower for leaf in members(k)]

    def holds(world, quantifier, kind):
        shares = [world[leaf] for leaf in members(kind)]
        return {"all": min(shares) == 2, "some": max(shares) > 0, "no": max(shares) == 0}[quantifier]

    told = [(q, kind) for q, kind, a in facts_of(premise) if a == ability]
    leaves = sorted({leaf for kind in (asked_kind, *(kind for _, kind in told)) for leaf in members(kind)})
    worlds = (dict(zip(leaves, shares, strict=True)) for shares in itertools.product((0, 1, 2), repeat=len(leaves)))
    return verdict(holds(w, asked, asked_kind) for w in worlds if all(holds(w, *statement) for statement in told))


def cue_oracle(premise, hypothesis):
    """Facts are of the present and closed under `somebody ... something`; the future is open."""
    subject, verb, rest = hypothesis.split()
    told = {fact[1] for fact in facts_of(premise)}
    if verb in ("will", "shall"):
        return "neutral"
    assert verb in told
    assert (subject == "nobody") == (rest == "anything")
    return "contradiction" if subject == "nobody" else "entailment"


def oracle(example):
    if example.difficulty == 1:
        return cue_oracle(example.premise, example.hypothesis)
    about_kinds = example.hypothesis.split()[0] in ("all", "some", "no")
    return (kinds_oracle if about_kinds else ability_oracle)(example.premise, example.hypothesis)


@pytest.fixture(scope="module")
def sample():
    return list(itertools.islice(examples(3, [1, 1, 1, 1]), 6000))


def test_labels_are_right(sample):
    for example in sample[:1500]:
        assert oracle(example) == LABEL_NAMES[example.label], example


def test_texts(sample):
    assert all(len(fact) == 3 for example in sample for fact in facts_of(example.premise))
    assert {word for e in sample for word in f"{e.premise} {e.hypothesis}".split()} == set(WORDS)


def test_labels_are_balanced_at_every_difficulty(sample):
    counts = Counter((example.difficulty, example.label) for example in sample)
    assert len(counts) == 12
    for difficulty in (1, 2, 3, 4):
        of_labels = [counts[difficulty, label] for label in range(3)]
        assert max(of_labels) - min(of_labels) <= 1


def test_determined_by_the_seed():
    first, again, other = (synthetic_splits(50, 20, [1, 1, 1, 1], seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_splits_share_nothing_and_evaluation_stays():
    small, large = (synthetic_splits(size, 300, [1, 1, 1, 1], 5) for size in (10, 3000))
    assert small["val"] == large["val"]
    assert small["test"] == large["test"]
    rows = [(e.premise, e.hypothesis) for split in large.values() for e in split]
    assert len(rows) == len(set(rows)) == 3600


def test_shares_choose_the_difficulties():
    splits = synthetic_splits(400, 10, [1, 0, 3], 5)
    counts = Counter(example.difficulty for example in splits["train"])
    assert set(counts) == {1, 3}
    assert 2 < counts[3] / counts[1] < 4.5


def bag_of_words_accuracy(rows):
    """A linear classifier over the word counts of either text, trained on three quarters of the rows."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    texts = [
        " ".join([f"p_{word}" for word in e.premise.split()] + [f"h_{word}" for word in e.hypothesis.split()])
        for e in rows
    ]
    counts = CountVectorizer(token_pattern=r"\S+").fit_transform(texts)
    labels = np.array([e.label for e in rows])
    cut = 3 * len(rows) // 4
    model = LogisticRegression(max_iter=300).fit(counts[:cut], labels[:cut])
    return model.score(counts[cut:], labels[cut:])


def test_word_counts_solve_the_first_difficulty_only():
    accuracy = {
        difficulty: bag_of_words_accuracy(list(itertools.islice(examples(1, shares), 4000)))
        for difficulty, shares in {1: [1], 2: [0, 1], 3: [0, 0, 1], 4: [0, 0, 0, 1]}.items()
    }
    assert accuracy[1] > 0.95
    assert accuracy[2] < 0.42
    assert accuracy[3] < 0.50  # rare quantifier pairs of a label: a weak hint
    assert accuracy[4] < 0.40


def test_a_text_is_what_the_tokenizer_reads(tmp_path):
    tokenizer = synthetic_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    for reader in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)):
        ids = reader("anna can swim", "anna can dive  ben cannot swim")["input_ids"]
        assert reader.convert_ids_to_tokens(ids) == [
            "[CLS]", "anna", "can", "swim", "[SEP]", "anna", "can", "dive", "ben", "cannot", "swim", "[SEP]",
        ]  # fmt: skip
    assert tokenizer.unk_token_id not in tokenizer(" ".join(WORDS))["input_ids"]


def make(**settings):
    return SyntheticEntailmentDataModule(
        train_samples=60, eval_samples=30, batch_size=10, eval_batch_size=15, **settings
    )


def test_data_module():
    data = make()
    assert (data.num_labels, data.label_names, data.task_name) == (3, list(LABEL_NAMES), "synthetic")
    assert data.metrics[0] == "acc"
    data.prepare_data()
    data.setup("fit")
    assert len(data.tokenizer) == data.vocab_size
    batches = list(data.train_dataloader())
    assert len(batches) == 6
    assert set(batches[0]) >= {"input_ids", "attention_mask", "token_type_ids", "labels", "index", "difficulty"}
    assert {d for batch in batches for d in batch["difficulty"].tolist()} == {1, 2, 3, 4}
    batch = next(iter(data.val_dataloader()[0]))
    rows = synthetic_splits(0, 30, [1.0] * 4, 42)["val"]
    for index, label, difficulty in zip(batch["index"], batch["labels"], batch["difficulty"], strict=True):
        assert (label, difficulty) == (rows[index].label, rows[index].difficulty)


def test_prediction_reads_own_rows(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("premise,hypothesis\nanna can swim  ben can dive,anna can swim\n", encoding="utf-8")
    data = make(predict_file=str(path))
    data.prepare_data()
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert data.tokenizer.decode(batch["input_ids"][0]).startswith("[CLS] anna can swim [SEP] anna")
    assert data.predict_rows([0])["hypothesis"] == ["anna can swim"]


@pytest.mark.parametrize("shares", [[], [0, 0], [1] * 5])
def test_shares_that_choose_nothing(shares):
    with pytest.raises(UserError, match="difficulty_shares"):
        SyntheticEntailmentDataModule(difficulty_shares=shares)


def test_an_exhausted_language_says_so(monkeypatch):
    monkeypatch.setattr("mebert.data.synthetic_grammar._MAKERS", (lambda rng, label: ("a", "b"),))
    with pytest.raises(UserError, match="train_samples"):
        list(itertools.islice(examples(0, [1]), 2))
