"""Answer selection and regression through the real command line, on files of a few hundred rows."""

import json
import math
import random

import pytest
import torch
from runs import newest, read_csv, run, text_experiment, write_config
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from mebert import EarlyExitClassifier, EarlyExitReranker
from mebert.metrics.curve import replay
from mebert.metrics.record_files import load_record
from mebert.metrics.task import metric_value
from mebert.policies.top_k import final_score_bounds

NOUNS = ["cat", "dog", "mouse", "horse", "cow", "sheep", "goat", "hen"]
PLACES = ["mat", "roof", "field", "barn"]


def answers(questions, seed):
    """A question asks for an animal; an answer that names it is right. One question in five has no right answer."""
    rng = random.Random(seed)
    rows = []
    for q in range(questions):
        noun = rng.choice(NOUNS)
        for a in range(rng.randint(3, 7)):
            right = a == 0 and q % 5 != 4
            told = noun if right else rng.choice([n for n in NOUNS if n != noun])
            text = f"the {told} is on the {rng.choice(PLACES)}"
            rows.append({"qid": f"q{q}", "question": f"where is the {noun}", "answer": text, "label": int(right)})
    return rows


def lengths(count, seed):
    """The number to be estimated is how often a word is `good`."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        words = [rng.choice(["good", "bad"]) for _ in range(rng.randint(2, 8))]
        rows.append({"text": " ".join(words), "label": words.count("good") / 2})
    return rows


def settings_of(folder, rows, **data):
    """A tiny experiment on own rows."""
    sizes = {"train": 40, "validation": 20, "test": 21}
    splits = {name: rows(count, seed) for seed, (name, count) in enumerate(sizes.items())}
    words = [*NOUNS, *PLACES, "where", "is", "the", "on", "good", "bad"]
    return text_experiment(folder, splits, words, **data)


def report(folder):
    return json.loads((newest(folder) / "evaluation.json").read_text())


def test_answer_selection_from_fit_to_predict(here, capsys):
    columns = {"text_column": "question", "text_pair_column": "answer", "query_column": "qid"}
    settings = settings_of(here, answers, **columns)
    settings["model"]["init_args"] |= {"class_weights": "balanced", "learning_rate": 3e-2}
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    assert "map" in capsys.readouterr().out
    assert "p_at_1" in (newest(here) / "report.md").read_text(encoding="utf-8")
    first = report(here)
    assert first["metric"] == "map"
    assert {"map", "mrr", "p_at_1"} <= set(first["exits"][0])
    assert all(0 < point["metric"] <= 1 for point in first["operating_points"]["entropy"])
    metrics = read_csv(newest(here) / "metrics.csv")
    logged = {name: float(value) for row in metrics for name, value in row.items() if value}
    assert {"train/exit_01/map", "val/exit_03/mrr", "val/score", "test/exit_02/p_at_1"} <= set(logged)
    assert logged["val/score"] == pytest.approx(logged["val/mean/map"])
    best = str(newest(here) / "checkpoints/best.ckpt")
    weights = torch.load(best, weights_only=True)["mebert"]["class_weights"]
    labels = [row["label"] for row in answers(40, 0)]
    assert weights == pytest.approx([len(labels) / 2 / labels.count(c) for c in (0, 1)])

    assert run("predict", "--config", "tiny.yaml", "--ckpt_path", best, "--predictions.path", "out.csv") == 0
    table = read_csv("out.csv")
    assert list(table[0]) == ["index", "qid", "question", "answer", "label", "prob_0", "prob_1", "exit"]
    assert [row["qid"] for row in table] == [row["qid"] for row in answers(21, 2)]

    # Answers of several exits are ranked together: each exit's scores over the temperature that fits validation data.
    folder = next(path for path in sorted((here / "runs/tiny").iterdir()) if (path / "model").is_dir())
    temperatures = json.loads((folder / "model/exits.json").read_text())["exit_temperatures"]
    kept = torch.load(best, weights_only=True)["mebert"]
    assert kept["exit_temperatures"] == temperatures
    validation, (tested, _) = kept["validation_record"], load_record(folder / "outputs.safetensors")
    for z, found in zip(validation["logits"].double().numpy(), temperatures, strict=True):
        best_t = minimize_scalar(
            lambda log_t, z=z: log_loss(validation["labels"], softmax(z * math.exp(-log_t), axis=1)),
            bounds=(math.log(0.05), math.log(20)),
            method="bounded",
        )
        assert math.log(found) == pytest.approx(best_t.x, abs=0.01)

    def comparable(exits):
        return tested.logits[exits, torch.arange(len(exits))] / torch.tensor(temperatures)[exits].unsqueeze(1)

    point = first["operating_point"]
    value = metric_value(
        "map", comparable(replay(tested.scores["entropy"], point["threshold"])), tested.labels, tested.queries
    )
    assert point["metric"] == pytest.approx(value)
    scores = tested.scores["entropy"]
    between = scores[:-1].unique().unfold(0, 2, 1).mean(1).tolist()
    half = max(between, key=lambda threshold: len(replay(scores, threshold).unique()))
    where = ["--predictions.path", "half.csv", "--predictions.threshold", repr(half)]
    assert run("predict", "--config", "tiny.yaml", "--ckpt_path", best, *where) == 0
    table = read_csv("half.csv")
    exits = torch.tensor([int(row["exit"]) - 1 for row in table])
    assert len(set(exits.tolist())) > 1
    probabilities = comparable(exits).softmax(-1)[:, 1].tolist()
    assert [float(row["prob_1"]) for row in table] == pytest.approx(probabilities, abs=1e-5)
    classify = EarlyExitClassifier.from_pretrained(folder / "model", precision="float32")
    found = classify([(row["question"], row["answer"]) for row in table], threshold=half)
    assert [one.exit for one in found] == [int(row["exit"]) for row in table]
    assert [one.probabilities["1"] for one in found] == pytest.approx(probabilities, abs=1e-5)

    # The model keeps bounds on scores from the validation pass, and ranks one question's answers by them.
    reranker = EarlyExitReranker.from_pretrained(folder, precision="float32")
    assert reranker.bounds == final_score_bounds(validation["logits"], temperatures)
    assert list(reranker.bounds) == [0.8, 0.9, 0.95]
    question = [row for row in table if row["qid"] == "q3"]
    texts = [row["answer"] for row in question]
    full = classify([(question[0]["question"], text) for text in texts], speedup=1)
    scores = torch.tensor([one.probabilities["1"] for one in full])
    for top_k, coverage in ((1, 0.95), (None, 0.8)):
        ranked = reranker.rank(question[0]["question"], texts, top_k, coverage=coverage)
        assert [one["score"] for one in ranked] == pytest.approx(
            scores.sort(descending=True)[0][:top_k].tolist(), abs=1e-5
        )


@pytest.mark.slow
def test_regression_from_fit_to_predict(here):
    """Numbers have a curve too, by Pearson: a text leaves when its estimate stops moving."""
    settings = settings_of(here, lambda count, seed: lengths(3 * count, seed), regression=True)
    settings["model"]["init_args"]["target_speedup"] = 1.2
    settings["curve"]["fit_indicators"] = True  # without classes there are no prototypes
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    written = (newest(here) / "report.md").read_text(encoding="utf-8")
    assert "Accuracy-speed curve: pearson" in written
    assert "Per class" not in written
    assert set(report(here)["policies"]) == {"change", "learned"}
    found = report(here)
    assert found["metric"] == "pearson"
    assert found["policy"] == "change"
    assert found["oracle"] is None
    assert 1.0 <= found["operating_point"]["speedup_layers"] <= 1.5
    assert found["operating_points"]["change"][0]["target"] == 1.2

    best = str(newest(here) / "checkpoints/best.ckpt")
    tables = {}
    for engine in ("shrink", "full"):
        arguments = ["--predictions.engine", engine, "--predictions.path", f"{engine}.csv"]
        assert run("predict", "--config", "tiny.yaml", "--ckpt_path", best, *arguments) == 0
        tables[engine] = read_csv(f"{engine}.csv")
    assert list(tables["full"][0]) == ["index", "text", "score", "exit"]
    exits = [int(row["exit"]) for row in tables["full"]]
    assert [int(row["exit"]) for row in tables["shrink"]] == exits
    assert 3 * len(exits) / sum(exits) == pytest.approx(found["operating_point"]["speedup_layers"], abs=1e-6)
