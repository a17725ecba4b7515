"""What an evaluation says, prints and writes, on a record made by hand."""

import csv
import json

import pytest
import torch
from tiny import tiny_model
from torchmetrics.retrieval import RetrievalMAP

from mebert.metrics.curve import CurvePoint, ExitRecord, replay
from mebert.models.flops import exit_flops, single_exit_flops
from mebert.policies import ValueChange
from mebert.report.evaluation import evaluate
from mebert.report.files import write_evaluation
from mebert.report.tables import metric_at, print_evaluation


def evaluation_of(recorded):
    model, record, policies, thresholds = recorded
    return evaluate(model, record, "test", ("acc", "f1"), policies["entropy"], policies, thresholds, (1.5, 2.0, 9.0))


def test_numbers(recorded):
    model, record, *_ = recorded
    evaluation = evaluation_of(recorded)
    assert evaluation.samples == 60
    for e in range(3):
        right = (record.logits[e].argmax(-1) == record.labels).float().mean()
        assert evaluation.exit_metrics["acc"][e] == pytest.approx(float(right))
        assert evaluation.fixed[e].metric == pytest.approx(float(right))
        assert evaluation.gflops[e] == pytest.approx(float(exit_flops(model, record.lengths)[e].mean()) / 1e9)
    assert evaluation.plain_gflops == pytest.approx(float(single_exit_flops(model, record.lengths).mean()) / 1e9)
    assert evaluation.fixed[0].speedup_layers == 3.0
    point = evaluation.points["entropy"][0]
    assert point.target == 1.5
    assert torch.equal(point.exits, replay(record.scores["entropy"], 0.9))
    assert [len(evaluation.points[name]) for name in ("entropy", "max_prob")] == [2, 1], "9x has no threshold"
    assert evaluation.current is not None
    assert evaluation.current.threshold == 0.6


def test_where_samples_left(recorded):
    _, record, *_ = recorded
    evaluation = evaluation_of(recorded)
    exits = evaluation.current.exits
    rows = {row.group: row for row in evaluation.groups}
    assert set(rows) == {"1", "2", "all"}
    easy = record.difficulty == 1
    assert rows["1"].samples == 30
    assert rows["1"].mean_layers == pytest.approx(float((exits[easy] + 1).double().mean()))
    assert sum(rows["2"].shares) == pytest.approx(1.0)
    assert rows["all"].shares[0] == pytest.approx(float((exits == 0).double().mean()))


def test_tables(recorded, capsys):
    evaluation = evaluation_of(recorded)
    first, second = evaluation.points["entropy"][:2]
    first.speedup_wall, first.speedup_wall_range = 1.23, (1.2, 1.3)
    second.speedup_wall, second.speedup_wall_range = None, (0.7, 4.0)
    evaluation.wall_setting = "here, now"
    print_evaluation(evaluation)
    out = capsys.readouterr().out
    for text in (
        "3.00x",
        "1.23x ±0.05",
        "in use",
        "rounds of the clock vary by more",
        "oracle *",
        "difficulty",
        "exit 3",
        "60 samples",
        "here, now",
    ):
        assert text in out
    assert "Accuracy-speed curve" in out


def test_the_curve_table_reads_the_curve():
    def point(speedup, metric):
        return CurvePoint("p", 0.0, metric, speedup, speedup, torch.zeros(1))

    points = [point(1.0, 0.9), point(2.0, 0.8), point(4.0, 0.5)]
    assert [metric_at(points, s) for s in (1.0, 1.5, 2.0, 3.0, 4.0)] == pytest.approx([0.9, 0.85, 0.8, 0.65, 0.5])
    assert metric_at(points, 9.0) == 0.5
    assert metric_at(points[:1], 1.0) == 0.9


def test_files(recorded, tmp_path):
    from PIL import Image

    evaluation = evaluation_of(recorded)
    write_evaluation(evaluation, tmp_path / "run", "tiny", checkpoint="best.ckpt")
    with Image.open(tmp_path / "run/curve.png") as image:
        assert image.size == (1200, 825)
        assert len(set(image.convert("L").resize((60, 40)).tobytes())) > 5, "not an empty picture"
    written = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert written["checkpoint"] == "best.ckpt"
    assert written["area_under_curve"].keys() == {"entropy", "max_prob"}
    with (tmp_path / "run/curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["policy", "threshold", "target", "acc"]
    assert {row["policy"] for row in rows} == {"fixed", "entropy", "max_prob"}
    assert sum(bool(row["target"]) for row in rows) == 3


def test_ranking(recorded, capsys):
    """MAP at every exit and along the curve; groups without a question to rank have none."""
    _, record, policies, _ = recorded
    logits = record.logits[..., :2]
    torch.manual_seed(2)
    ranked = ExitRecord(
        logits, torch.randint(0, 2, (60,)), record.index, record.lengths, record.scores, record.difficulty
    )
    ranked.queries = torch.where(record.difficulty == 1, torch.arange(60) // 10, -1)
    evaluation = evaluate(
        tiny_model(num_labels=2),
        ranked,
        "test",
        ("map", "p_at_1", "acc"),
        policies["entropy"],
        {"entropy": policies["entropy"]},
        {},
        (),
    )
    kept = ranked.queries >= 0
    for e in range(3):
        oracle = RetrievalMAP()
        oracle.update(logits[e, kept].softmax(-1)[:, 1], ranked.labels[kept], indexes=ranked.queries[kept])
        assert evaluation.exit_metrics["map"][e] == pytest.approx(float(oracle.compute()))
        assert evaluation.fixed[e].metric == evaluation.exit_metrics["map"][e]
    ends = evaluation.curves["entropy"][0].metric, evaluation.curves["entropy"][-1].metric
    assert ends == (evaluation.fixed[-1].metric, evaluation.fixed[0].metric)
    metrics = {row.group: row.metric for row in evaluation.groups}
    assert metrics["2"] is None
    assert metrics["1"] == metrics["all"] == evaluation.current.metric
    print_evaluation(evaluation)
    assert "p_at_1" in capsys.readouterr().out
    json.dumps(evaluation.as_dict(), allow_nan=False)


def test_regression(capsys, tmp_path):
    """There is a curve, from the last exit to the second one; and nothing is right or wrong, so no oracle."""
    model = tiny_model(num_labels=1)
    n = 20
    torch.manual_seed(0)
    record = ExitRecord(torch.randn(3, n, 1), torch.randn(n), torch.arange(n), torch.full((n,), 6))
    policy = ValueChange(0.4)
    record.scores = {"change": policy.score_exits(record.logits, record.logits)}
    thresholds = {"change": {1.2: 0.4}}
    evaluation = evaluate(
        model, record, "test", ("pearson", "spearman"), policy, {"change": policy}, thresholds, (1.2, 2.0)
    )
    assert evaluation.oracle is None
    assert len(evaluation.fixed) == 3
    curve = evaluation.curves["change"]
    assert curve[0].metric == evaluation.fixed[-1].metric
    assert curve[-1].exits.tolist() == [1] * n
    assert curve[-1].metric == evaluation.fixed[1].metric
    assert evaluation.current.exits.tolist() == evaluation.points["change"][0].exits.tolist()
    print_evaluation(evaluation)
    out = capsys.readouterr().out
    assert "pearson" in out
    assert "oracle" not in out
    assert "upper bound" not in out
    row = next(line for line in out.splitlines() if "change" in line)
    assert row.count(" - ") == 4, "no value at 1.75x, 2x, 2.5x and 3x: the policy attains 1.5x"
    write_evaluation(evaluation, tmp_path, "tiny")
    assert (tmp_path / "curve.png").is_file()
