"""EarlyExitClassifier: from texts to labels, streamed, in order."""

import gc
import io
import tracemalloc

import numpy as np
import pytest
import torch
from tiny import VOCABULARY, tiny_model, words_tokenizer

from mebert import EarlyExitClassifier, MultiExitModel, Prediction, UserError
from mebert.exit_predictor import PredictorOrigin, TokenExitPredictor
from mebert.inference.whole_batch import ShrinkEngine
from mebert.metrics.curve import replay
from mebert.policies import Entropy, FixedExit

WORDS = [f"w{i}" for i in range(VOCABULARY - 5)]
LABELS = ["no", "maybe", "yes"]
ENGINES = ["full", "shrink", "refill", "predicted"]
FAST = {"device": "cpu", "precision": "float32"}


def texts_of(count, seed=0, longest=12):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, size=n)) for n in generator.integers(1, longest, size=count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "model"
    model = tiny_model(pooling="mean", label_names=LABELS)
    points = {"entropy": {1.5: 0.8005, 2.0: 0.935}, "max_prob": {2.0: 0.45}}
    # The scores of the texts below lie on both sides of each threshold, none nearer than rounding could matter.
    model.save_pretrained(folder, words_tokenizer(), Entropy(0.851), operating_points=points)
    predictor = TokenExitPredictor(3, vocab_size=VOCABULARY)
    predictor.fit(torch.arange(5, 50), torch.arange(46), torch.arange(45) % 3)
    predictor.origin = PredictorOrigin("entropy", 0.851)
    predictor.save(folder)
    return folder


@pytest.fixture(scope="module")
def classify(folder):
    return EarlyExitClassifier.from_pretrained(folder, **FAST)


def expected_of(folder, texts, policy):
    """Labels and exits by the plain model and the offline sweep, one text at a time, with the library's own padding."""
    model, found = MultiExitModel.from_pretrained(folder), []
    for text in texts:
        pair = text if isinstance(text, tuple) else (text,)
        inputs = words_tokenizer()(*pair, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            out = model(**inputs)
            exit_index = int(replay(policy.score_exits(out.logits, out.features), policy.threshold))
        found.append((out.logits[exit_index, 0].softmax(-1), exit_index + 1))
    return found


def check(answers, expected):
    for answer, (probabilities, exit_number) in zip(answers, expected, strict=True):
        assert answer.exit == exit_number
        assert list(answer.probabilities) == LABELS
        assert list(answer.probabilities.values()) == pytest.approx(probabilities.tolist(), abs=1e-4)
        assert answer.label == LABELS[int(probabilities.argmax())]


@pytest.mark.parametrize("engine", ["full", "shrink", "refill"])
def test_labels_probabilities_and_exits(classify, folder, engine):
    texts = texts_of(40)
    expected = expected_of(folder, texts, Entropy(0.851))
    assert len({exit_number for _, exit_number in expected}) > 1
    for size in (1, 7, 32):
        check(classify(texts, engine=engine, batch_size=size), expected)


def test_one_text_a_pair_a_list_of_pairs(classify, folder):
    one = classify("w1 w2 w3")
    assert isinstance(one, Prediction)
    assert one == classify(["w1 w2 w3"])[0]
    pairs = [("w1 w2", "w3"), ("w4", "w5 w6 w7")]
    check(classify(pairs), expected_of(folder, pairs, Entropy(0.851)))
    assert classify(pairs[0]).probabilities == pytest.approx(classify(pairs)[0].probabilities, abs=1e-5)
    assert classify([]) == []
    assert classify("") == classify([""])[0]


@pytest.mark.parametrize(("given", "sizes"), [({}, [128, 128, 44]), ({"batch_size": 200}, [200, 100])])
def test_batches_have_128_texts_unless_told_otherwise(classify, given, sizes, monkeypatch):
    fed, feed = [], ShrinkEngine.feed

    def record(self, inputs, rows):
        fed.append(len(rows))
        return feed(self, inputs, rows)

    monkeypatch.setattr(ShrinkEngine, "feed", record)
    assert len(classify(texts_of(300), **given)) == 300
    assert sorted(fed, reverse=True) == sizes


def test_policy_threshold_and_speedup(classify):
    texts = texts_of(30, seed=1)

    def exits(**settings):
        return [answer.exit for answer in classify(texts, **settings)]

    assert exits(speedup=2) == exits(threshold=0.935) == exits(policy=Entropy(0.935))
    assert exits(policy="max_prob", speedup=2.0) == exits(policy="max_prob", threshold=0.45)
    assert set(exits(threshold=0.0)) == {3}
    assert set(exits(policy=FixedExit(exit=2))) == {2}
    assert set(exits(threshold=1.0)) <= {1, 2}


def test_predicted_needs_a_predictor_for_the_operating_point(classify, folder):
    exits = {answer.exit for answer in classify(texts_of(60, longest=3), engine="predicted")}
    assert len(exits) > 1
    with pytest.raises(UserError, match=r"no exit predictor for entropy at threshold 0.935 \(stored: entropy 0.851"):
        classify("w1", engine="predicted", speedup=2)
    bare = EarlyExitClassifier(tiny_model(), words_tokenizer(), Entropy(0.851), **FAST)
    with pytest.raises(UserError, match="no exit predictor is stored with this model; train with"):
        bare("w1", engine="predicted")


def test_a_runs_folder_opens_its_model(folder):
    assert EarlyExitClassifier.from_pretrained(folder.parent, **FAST).label_names == LABELS


def test_regression_gives_a_score():
    model = tiny_model(num_labels=1)
    classify = EarlyExitClassifier(model, words_tokenizer(), FixedExit(exit=3), **FAST)
    answer = classify("w1 w2")
    with torch.no_grad():
        expected = model.last_exit(**words_tokenizer()("w1 w2", return_tensors="pt"))
    assert (answer.label, answer.probabilities, answer.exit) == (None, {}, 3)
    assert answer.score == pytest.approx(float(expected), abs=1e-4)


def test_long_texts_are_cut(classify):
    long = " ".join(WORDS[:1] * 200)
    assert classify(long) == classify(" ".join(WORDS[:1] * 62))
    assert classify(long, max_length=12).probabilities == pytest.approx(
        classify(" ".join(WORDS[:1] * 10)).probabilities, abs=1e-6
    )


# ---- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_an_iterator_is_read_as_it_is_asked_and_answered_in_order(classify, engine):
    texts, read = texts_of(200, seed=2), []

    def source():
        for text in texts:
            read.append(text)
            yield text

    settings = {"engine": engine, "batch_size": 4, "window": 16}
    answers = classify(source(), **settings)
    assert read == []
    first = next(answers)
    assert len(read) <= 5 * 16, "a few windows at most"
    rest = list(answers)
    assert read == texts
    together = classify(texts, **settings)
    assert [a.exit for a in (first, *rest)] == [a.exit for a in together]
    assert [a.label for a in (first, *rest)] == [a.label for a in together]


def test_an_open_file_is_a_stream(classify):
    texts = texts_of(5)
    answers = classify(io.StringIO("\n".join(texts) + "\n"))
    assert [a.label for a in answers] == [a.label for a in classify(texts)]


@pytest.mark.parametrize("engine", ["shrink", "refill", "predicted"])
@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_texts_stream_in_bounded_memory(classify, engine, count):
    pool = texts_of(500, seed=3, longest=6)

    def source():
        for number in range(count):
            yield pool[number % 500] + " w1"  # a new string each

    seen = 0
    answers = classify(source(), engine=engine, window=256)
    for _ in zip(range(1000), answers, strict=False):
        seen += 1
    gc.collect()
    tracemalloc.start()
    for _ in answers:
        seen += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == count
    assert peak < 4e6, "Python objects of a few windows, not of the input (100 000 answers alone are 60 MB)"


def test_a_model_without_a_policy_asks_for_one():
    classify = EarlyExitClassifier(tiny_model(), words_tokenizer(), **FAST)
    with pytest.raises(UserError, match="saved without a policy; give policy"):
        classify("w1")
    assert classify("w1", policy="entropy", threshold=0.0).exit == 3
