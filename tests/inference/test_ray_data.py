"""Ray Data over a saved model: what its actors answer is what the classifier says in this process."""

import json
import os

import numpy as np
import pytest
from tiny import tiny_model, words_tokenizer

from mebert.errors import UserError
from mebert.inference.classifier import EarlyExitClassifier
from mebert.inference.ray_data import EarlyExitPredictor
from mebert.policies import Entropy

WORDS = [f"w{i}" for i in range(8)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model, tokenizer = tiny_model(num_labels=2, label_names=["no", "yes"]), words_tokenizer()
    answers = EarlyExitClassifier(model, tokenizer, device="cpu", precision="float32")(
        texts(40), policy="entropy", threshold=1.0
    )
    shares = np.asarray([list(answer.probabilities.values()) for answer in answers])
    middle = float(np.median(-(shares * np.log(shares)).sum(1) / np.log(2)))  # half leave at the first exit
    model.save_pretrained(folder, tokenizer, Entropy(middle).bind(model))
    return str(folder)


def texts(count):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 1 + i % 12)) for i in range(count)]


def as_rows(found):
    return [
        (text, label, round(float(yes), 4), int(exit_number))
        for text, label, yes, exit_number in zip(
            found["text"], found["label"], found["prob_yes"], found["exit"], strict=True
        )
    ]


def wanted(saved, rows):
    answers = EarlyExitClassifier.from_pretrained(saved, device="cpu", precision="float32")(rows)
    found = [(text, a.label, round(a.probabilities["yes"], 4), a.exit) for text, a in zip(rows, answers, strict=True)]
    assert len({exit_number for *_, exit_number in found}) > 1
    return found


def test_a_block_of_rows(saved):
    rows = texts(40)
    predictor = EarlyExitPredictor(saved, device="cpu", precision="float32", call={"batch_size": 8})
    found = predictor({"text": np.asarray(rows, dtype=object), "id": np.arange(40)})
    assert list(found) == ["text", "id", "label", "prob_no", "prob_yes", "exit"]
    assert as_rows(found) == wanted(saved, rows)
    gold = predictor({"text": np.asarray(rows, dtype=object), "label": np.arange(40)})
    assert list(gold) == ["text", "input_label", "label", "prob_no", "prob_yes", "exit"]
    assert (gold["input_label"] == np.arange(40)).all()
    pairs = EarlyExitPredictor(saved, text_pair_column="b", device="cpu", precision="float32")
    both = pairs({"text": np.asarray(["a cat", None]), "b": np.asarray(["the mat", "ran"])})
    classify = EarlyExitClassifier.from_pretrained(saved, device="cpu", precision="float32")
    assert both["exit"].tolist() == [a.exit for a in classify([("a cat", "the mat"), ("", "ran")])]
    with pytest.raises(UserError, match="no column 'text'; theirs are: body"):
        predictor({"body": np.asarray(["a"])})


@pytest.mark.slow
def test_on_a_local_ray(saved, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "mebert[ray]"')
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    rows = texts(200)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows), encoding="utf-8")
    environment = {"env_vars": {"PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env=environment, object_store_memory=100 * 2**20)
    try:
        found = (
            ray.data.read_json(str(tmp_path / "in.jsonl"), lines=True)
            .map_batches(
                EarlyExitPredictor,
                fn_constructor_kwargs={"model": saved, "device": "cpu", "precision": "float32", "threads": 1},
                concurrency=1,
                batch_size=64,
            )
            .to_pandas()
        )
    finally:
        ray.shutdown()
    assert sorted(as_rows(found)) == sorted(wanted(saved, rows))
