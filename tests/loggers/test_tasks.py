"""What Weights & Biases gets of other tasks: estimates, ranked answers, texts that look like markup; two processes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
import yaml
from runs import experiment, run, run_process, text_experiment, write_config
from wandb_file import offline_runs

from mebert.metrics.record_files import load_record
from mebert.report.wandb_tables import question_ranks, spread_rows

OVERLAY = str(Path(__file__).resolve().parents[2] / "configs" / "logger" / "wandb.yaml")
MARKUP = "<script>alert('x')</script> | **the** =1+1"


def fit_own(folder: Path, rows: list[dict[str, object]], **data: object) -> tuple[Path, object]:
    """Train on own rows, the same in every split; the run's folder, and what W&B has."""
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    words = ["a", "dog", "the", "cat", *map(str, range(24))]
    settings = text_experiment(folder, splits, words, batch_size=8, **data)
    settings["model"]["init_args"]["learning_rate"] = 3e-2
    settings["trainer"]["max_epochs"] = 1
    settings["curve"] |= {"wall_samples": 0, "policies": []}
    write_config(folder, settings)
    assert run("fit", "--config", "tiny.yaml", "--config", OVERLAY, "--wandb.samples", "50") == 0
    (found,) = offline_runs(folder / "runs")
    return folder / "runs" / "tiny" / found.run.run_id, found


def test_texts_are_plain_strings(here):
    """Markup is a string like any other; a column may have a name of ours; a row without label shifts nothing."""
    rows = [{"label": "yes" if n % 3 else "no", "layer": f"a dog {n}"} for n in range(12)]
    rows[4]["layer"] = MARKUP
    rows[1]["label"] = ""
    _, found = fit_own(here, rows, text_column="layer")
    shown = {row["index"]: row for row in found.rows("test/samples")}
    assert sorted(shown) == [0, *range(2, 12)]
    for index, row in shown.items():
        assert row["layer (text)"] == rows[index]["layer"]
        assert row["label"] == rows[index]["label"]
    (path,) = [name for name in found.files("run_table") if name == "test/samples.table.json"]
    kinds = json.loads(found.files("run_table")[path].read_text())["column_types"]["params"]["type_map"]
    assert "html" not in json.dumps(kinds)


def test_regression(here):
    rows = [{"text": f"a dog {n}", "label": n / 4} for n in range(16)]
    folder, found = fit_own(here, rows, regression=True)
    record, _ = load_record(folder / "outputs.safetensors")
    samples = found.rows("test/samples")
    assert len(samples) == 16
    for row in samples:
        estimates = record.logits[:, row["index"], 0].tolist()
        assert [row[f"exit_{e:02d}"] for e in (1, 2, 3)] == pytest.approx(estimates)
        assert row["error"] == pytest.approx(estimates[row["exit_taken"] - 1] - rows[row["index"]]["label"], abs=1e-5)
        assert row["text"] == rows[row["index"]]["text"]
        assert not [name for name in row if "confidence" in name or name == "right"]
    wrong = record.logits[1, :, 0].double() - record.labels.double()
    second = found.rows("test/errors")[1]
    assert second["mean absolute error"] == pytest.approx(float(wrong.abs().mean()))
    assert second["root mean squared error"] == pytest.approx(float(torch.sqrt((wrong**2).mean())))
    assert second["mean error"] == pytest.approx(float(wrong.mean()))
    assert not [name for row in found.history for name in row if "confusion" in name]
    assert found.rows("test/exits")[0]["spearman"] is not None


def test_ranking(here):
    rows = [
        {"q": f"the cat {n // 4}", "answer": f"a dog {n}", "label": "right" if n % 4 == n // 4 % 4 else "wrong"}
        for n in range(24)
    ]
    own = {"text_column": "q", "text_pair_column": "answer", "labels": ["wrong", "right"], "query_column": "q"}
    folder, found = fit_own(here, rows, **own)
    record, _ = load_record(folder / "outputs.safetensors")
    samples = found.rows("test/samples")
    assert {(row["q"], row["answer"]) for row in samples} == {(row["q"], row["answer"]) for row in rows}
    questions = {row["q"]: [] for row in samples}
    for row in samples:
        logits = record.logits[row["exit_taken"] - 1, row["index"]].tolist()
        questions[row["q"]].append((row["rank"], logits[1] - logits[0], row["question_number"]))
    for ranked in questions.values():
        ranked.sort()
        assert [rank for rank, _, _ in ranked] == [1, 2, 3, 4]
        scores = [score for _, score, _ in ranked]
        assert scores == sorted(scores, reverse=True)
        assert len({number for _, _, number in ranked}) == 1
    assert found.rows("test/exits")[0]["map"] > 0
    assert found.metrics["test/exit_01/map"].summary.max


def test_ranks_of_questions():
    logits = torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 2.0], [0.0, 5.0], [0.0, -1.0], [0.0, 0.0]])
    assert question_ranks(logits, torch.tensor([0, 0, 1, -1, 1, 1])) == [2, 1, 1, None, 3, 2]


@pytest.mark.parametrize(("samples", "at_most"), [(1, 5), (5, 5), (5, 100), (41, 7), (1000, 3)])
def test_rows_are_spread(samples, at_most):
    rows = spread_rows(samples, at_most)
    assert len(rows) == min(samples, at_most)
    assert rows[0] == 0
    assert rows[-1] == (samples - 1 if at_most > 1 else 0)
    gaps = {b - a for a, b in itertools.pairwise(rows)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path):
    """One folder, one history, the samples of both processes."""
    settings = experiment(learning_rate=3e-2)
    settings["trainer"] |= {"max_epochs": 1, "devices": 2, "strategy": "ddp", "enable_progress_bar": False}
    settings["curve"] |= {"wall_samples": 0}
    config = write_config(tmp_path, settings)
    done = run_process("fit", "--config", str(config), "--config", OVERLAY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("wandb sync ") == 1
    (found,) = offline_runs(tmp_path / "runs")
    assert [path.name for path in (tmp_path / "runs" / "tiny").iterdir()] == [found.run.run_id]
    assert len(found.values("val/score")) == 1
    assert sorted(row["index"] for row in found.rows("test/samples")) == list(range(41))
    assert (
        found.config["config"]["trainer"]
        == yaml.safe_load((tmp_path / "runs" / "tiny" / found.run.run_id / "config.yaml").read_text())["trainer"]
    )
