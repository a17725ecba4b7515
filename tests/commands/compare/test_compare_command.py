"""`python -m mebert compare` on runs made by hand and on a real one."""

import csv
import json
import re
import shlex
import shutil

import pytest
import scipy.stats
import torch
from made_runs import write_settings

from mebert.cli.main import main
from mebert.metrics.at_speed import exits_at_speedup
from mebert.metrics.curve import ExitRecord
from mebert.metrics.record_files import save_record
from mebert.metrics.task import metric_value

LAYERS = [1, 2, 3, 4]


def write_curve(folder, metric, lines):
    header = f"policy,threshold,target,{metric},speedup_layers,speedup_flops,speedup_wall"
    (folder / "curve.csv").write_text("\n".join([header, *lines]) + "\n")


def made_run(folder, seed, metric="acc", task="rte", quality=1.0, rows=300, policy="entropy", labels=2, layers=LAYERS):
    """The folder of a tested run whose predictions are right with a probability that rises with `quality`."""
    write_settings(folder, seed, "mebert.DeeBERTModule", task)
    same = torch.Generator().manual_seed(5)  # the same rows for every run
    gold = torch.randn(rows, generator=same) if labels == 1 else torch.randint(0, labels, (rows,), generator=same)
    signal = gold.unsqueeze(-1) if labels == 1 else torch.nn.functional.one_hot(gold, labels)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, rows, labels, generator=generator) + quality * signal
    scores = torch.rand(4, rows, generator=generator)
    scores = {"entropy": scores, "margin": scores**2}
    record = ExitRecord(logits, gold, torch.arange(rows), torch.full((rows,), 9), scores)
    record.queries = torch.arange(rows) // 6 if metric == "map" else None
    save_record(record, folder / "outputs.safetensors", {})
    evaluation = {"metric": metric, "plain_gflops": 2.0, "policy": policy, "best_policy": "margin"}
    evaluation["exits"] = [{"layer": layer, metric: None} for layer in layers]
    evaluation["policies"] = {"entropy": {"area": 0.5 + seed / 100}, "margin": {"area": 0.25}}
    evaluation["checkpoint"] = "some/best.ckpt"
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    # Reference 1.0 at 1 GFLOPs and 0.8 at 2, from points out of order; another policy and a target do not count.
    height = 0.8 + seed / 100
    lines = [f"entropy,0.1,,{height + 0.1},1,1,", f"entropy,0.9,,{height},2,2,"]
    write_curve(folder, metric, [*lines, "entropy,0.5,2,0,1,1,", "fixed,1,,0,2,2,"])
    return folder, record


def compared(capsys, *args):
    """Run the command; its CSV as rows."""
    assert main(["compare", *map(str, args), "--format", "csv"]) == 0
    return list(csv.DictReader(capsys.readouterr().out.splitlines()))


def test_accuracy_at_equal_speed_with_mcnemar(tmp_path, capsys):
    a, first = made_run(tmp_path / "a", 1, quality=1.0)
    b, second = made_run(tmp_path / "b", 2, quality=1.6)
    rows = compared(capsys, a, b, "--speedups", "2", "1.5")
    assert [(row["run"], row["speedup"]) for row in rows] == [
        (str(folder), speed) for folder in (a, b) for speed in ("1", "1.5", "2")
    ]
    right = {}
    for row in rows:
        record = first if row["run"] == str(a) else second
        exits = exits_at_speedup(record.scores["entropy"], LAYERS, float(row["speedup"]))
        right[row["run"], row["speedup"]] = record.logits_at(exits).argmax(-1) == record.labels
        assert float(row["value"]) == pytest.approx(float(right[row["run"], row["speedup"]].double().mean()))
        assert (row["recipe"], row["task"], row["policy"], row["metric"]) == ("DeeBERT", "rte", "entropy", "acc")
    for row in rows[3:]:
        before, after = right[str(a), row["speedup"]], right[str(b), row["speedup"]]
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        assert float(row["p_value"]) == pytest.approx(scipy.stats.binomtest(gained, gained + lost).pvalue)
        assert float(row["difference"]) == pytest.approx((gained - lost) / 300)
        assert float(row["low"]) < float(row["difference"]) < float(row["high"])
        assert row["test"] == "mcnemar"
        assert float(row["over_first"]) == pytest.approx(0.01), "the second curve is that much higher"
    assert [row["difference"] for row in rows[:3]] == ["", "", ""]
    assert float(rows[0]["area"]) == 0.51


@pytest.mark.parametrize(("metric", "labels"), [("map", 2), ("f1", 2), ("pearson", 1)])
def test_other_metrics_with_a_bootstrap(tmp_path, capsys, metric, labels):
    a, record = made_run(tmp_path / "a", 1, metric, quality=0.5, labels=labels)
    b, _ = made_run(tmp_path / "b", 2, metric, quality=3.0, labels=labels)
    rows = compared(capsys, a, b, "--speedups", "2")
    assert float(rows[0]["value"]) == pytest.approx(
        metric_value(metric, record.logits[-1], record.labels, record.queries), abs=1e-6
    )
    for row in rows[2:]:
        assert row["test"] == "bootstrap"
        assert float(row["p_value"]) < 0.01
        assert 0 < float(row["low"]) < float(row["difference"]) < float(row["high"])
        assert float(row["difference"]) == pytest.approx(
            float(row["value"]) - float(rows[0 if row["speedup"] == "1" else 1]["value"]), abs=1e-6
        )


def test_a_run_against_itself_and_alone(tmp_path, capsys):
    a, _ = made_run(tmp_path / "a", 1)
    rows = compared(capsys, a, a)
    assert {row["p_value"] for row in rows} == {"", "1.0"}
    assert compared(capsys, a)[0]["over_first"] == "0.0"
    assert main(["compare", str(a)]) == 0
    assert "Difference" not in capsys.readouterr().out


def test_a_run_with_fewer_layers_counts_against_the_deepest(tmp_path, capsys):
    """2x of 8 layers is the last exit of a model with 4: equal speed, not equal share of the own layers."""
    a, first = made_run(tmp_path / "a", 1, layers=(2, 4, 6, 8))
    b, second = made_run(tmp_path / "b", 2)
    rows = compared(capsys, a, b, "--speedups", "2", "4")
    found = {(row["run"], row["speedup"]): row for row in rows}
    assert found[str(b), "1"]["value"] == found[str(b), "1"]["difference"] == "", "it has no such depth"
    half = second.logits_at(exits_at_speedup(second.scores["entropy"], LAYERS, 2.0))
    for speed, logits in (("2", second.logits[-1]), ("4", half)):
        assert float(found[str(b), speed]["value"]) == metric_value("acc", logits, second.labels)
    quarter = first.logits_at(exits_at_speedup(first.scores["entropy"], [2, 4, 6, 8], 4.0))
    expected = metric_value("acc", half, second.labels) - metric_value("acc", quarter, first.labels)
    assert float(found[str(b), "4"]["difference"]) == pytest.approx(expected, abs=1e-6)
    assert main(["compare", str(a), str(b)]) == 0
    said = capsys.readouterr().out
    assert "Speed-ups count against the deepest run's 8 layers." in said
    assert "Areas are over each run's own layers" in said


def test_a_curve_that_ends_early_is_not_scored_where_it_does_not_reach(tmp_path, capsys):
    """Run 1 reaches 0.5 GFLOPs. Run 2's policy stops at 1: it goes on to its first exit, everybody at 0.8 GFLOPs."""
    a, _ = made_run(tmp_path / "a", 1)
    b, _ = made_run(tmp_path / "b", 1)
    ours = ["fixed,4,,0.9,1,1,", "fixed,1,,0.5,4,4,", "entropy,0.1,,0.9,1,1,", "entropy,0.5,,0.8,2,2,"]
    ours += ["entropy,0.7,,0.7,2.5,2.5,", "entropy,0.9,,0.5,4,4,"]
    theirs = ["fixed,4,,0.9,1,1,", "fixed,1,,0.7,2.5,2.5,", "entropy,0.1,,0.9,1,1,", "entropy,0.9,,0.9,2,2,"]
    write_curve(a, "acc", ours)
    write_curve(b, "acc", theirs)
    rows = compared(capsys, a, b, "--speedups", "2")
    # At 2, 1 and 0.8 GFLOPs it has 0.9, 0.9 and 0.7, the other one 0.9, 0.8 and 0.7; at 0.5 it has nothing.
    assert float(rows[-1]["over_first"]) == pytest.approx(0.1 / 3)


def test_policies_by_name(tmp_path, capsys):
    a, _ = made_run(tmp_path / "a", 1, policy="fixed")
    rows = compared(capsys, a, "--speedups", "2")
    assert [row["value"] != "" for row in rows] == [True, False], "a fixed exit has no threshold"
    rows = compared(capsys, a, "--policy", "best", "--speedups", "2")
    assert [(row["policy"], row["value"] != "", row["area"]) for row in rows] == [("margin", True, "0.25")] * 2
    assert main(["compare", str(a), "--policy", "voting"]) == 2
    assert "choose of entropy, margin, or best" in capsys.readouterr().err


def test_text_markdown_and_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "a", 1)
    made_run(tmp_path / "b", 2, quality=1.7)
    assert main(["compare", "a", "b"]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines() if re.search(r"\d\.\d{4}", line)) <= 120
    command = re.search(r"python -m mebert (compare .*)", text).group(1)
    assert command.endswith("--out report.html")
    command = command.replace("report.html", "comparison.md")
    next_words = []
    for left in ("", "b/checkpoints/best.ckpt", "some/best.ckpt", "b/model/exits.json"):  # run b has the larger area
        if left:
            (tmp_path / left).parent.mkdir(parents=True)
            (tmp_path / left).touch()
        assert main(shlex.split(command)) == 0
        next_words.append(re.search(r"python -m mebert (.*)", capsys.readouterr().out).group(1))
    assert next_words == [
        "fit --config b/config.yaml",
        "predict --config b/config.yaml --ckpt_path b/checkpoints/best.ckpt --out out.csv",
        "predict --config b/config.yaml --ckpt_path some/best.ckpt --out out.csv",
        "predict b my.csv --out out.csv",
    ]
    markdown = (tmp_path / "comparison.md").read_text()
    cells = re.findall(r"[-+]?\d\.\d{4}", markdown)
    assert cells == re.findall(r"[-+]?\d\.\d{4}", text), "the same numbers"
    assert len(re.findall(r"^\| ---", markdown, re.MULTILINE)) == 3
    assert "| run | recipe | layer 1 | layer 2 | layer 3 | layer 4 |" in markdown
    assert main(["compare", "a", "b", "--out", "c.txt"]) == 0
    assert "2 - 1" in (tmp_path / "c.txt").read_text()


def test_runs_that_cannot_be_compared(tmp_path, capsys):
    a, _ = made_run(tmp_path / "a", 1)
    b, _ = made_run(tmp_path / "b", 2, rows=299)
    c, _ = made_run(tmp_path / "c", 2, task="mrpc")
    d, record = made_run(tmp_path / "d", 2)
    record.labels[0] = 1 - record.labels[0]
    save_record(record, d / "outputs.safetensors", {})
    for other, said in [
        (b, f"other rows (300 and 299); test both on the same split: python -m mebert test {b}\n"),
        (c, "their task differs (rte, mrpc); give runs of one task"),
        (d, "the labels of their rows differ"),
    ]:
        assert main(["compare", str(a), str(other)]) == 2
        assert said in capsys.readouterr().err


def test_a_real_run_and_its_copy(in_trained_run, capsys):
    shutil.copytree("runs/tiny/version_0", "runs/tiny/version_1")
    rows = compared(capsys, "runs/tiny/version_0", "runs/tiny", "--speedups", "1.5")
    assert [row["run"] for row in rows[::2]] == ["runs/tiny/version_0", "runs/tiny/version_1"]
    evaluation = json.loads((in_trained_run / "runs/tiny/version_0/evaluation.json").read_text())
    for row in rows[::2]:
        assert (row["seed"], row["recipe"], row["task"]) == ("42", "ProtoExit", "SyntheticEntailment")
        assert float(row["value"]) == pytest.approx(evaluation["exits"][-1]["acc"])
        assert float(row["area"]) == pytest.approx(evaluation["area_under_curve"]["edr"])
        assert float(row["over_first"]) == 0.0
    assert [float(row["p_value"]) for row in rows[2:]] == [1.0, 1.0]
    # The page of both: what real files say of exits, of rows of known difficulty, of training.
    assert main(["compare", "runs/tiny/version_0", "runs/tiny/version_1", "--out", "report.html"]) == 0
    page = (in_trained_run / "report.html").read_text(encoding="utf-8")
    heads = re.findall(r"<h2>(.*?)</h2>", page)
    assert heads[:4] == ["Runs", "Accuracy against speed", "Each exit alone", "Where rows leave"]
    assert heads[4:7] == ["Per class", "Easy and hard rows", "Training"]
    for exit_ in evaluation["exits"]:
        assert f'data-sort="{exit_["acc"]}"' in page
