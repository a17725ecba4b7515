"""Answer selection and regression through the real command line, on files of a few hundred rows."""

import json
import random

import pytest
import torch
from runs import newest, read_csv, run, text_experiment, write_config

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
    settings["model"]["init_args"]["class_weights"] = "balanced"
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    shown = capsys.readouterr().out
    assert "map" in shown
    assert "p_at_1" in shown
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


def test_regression_from_fit_to_predict(here, capsys):
    """Numbers have a curve too, by Pearson: a text leaves when its estimate stops moving."""
    settings = settings_of(here, lambda count, seed: lengths(3 * count, seed), regression=True)
    settings["model"]["init_args"]["target_speedup"] = 1.2
    settings["curve"]["fit_indicators"] = True  # without classes there are no prototypes
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    shown = capsys.readouterr().out
    assert "Accuracy-speed curve: pearson" in shown
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
