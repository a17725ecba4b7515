"""The report, from runs whose every answer is known."""

import json
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
import yaml
from runs import read_csv

from mebert.cli.main import main
from mebert.commands.study.settings import Study, cells_of
from mebert.metrics.curve import ExitRecord
from mebert.metrics.record_files import save_record

ROWS = 40
SETTINGS = {
    "name": "known",
    "base": {"model": {"class_path": "m"}, "data": {"class_path": "d"}},
    "tasks": {"one": {}, "two": {}},
    "recipes": {"joint": {}, "other": {}, "first_2": {}},
    "seeds": [1, 2],
    "targets": [1, 2, 4],
}


def write_run(cell, right, exit_layers, policies, best=None):
    """A finished run: `right` (E, N) says who is right at each exit, `policies` has scores (E, N) by name."""
    run = cell.folder / "version_0"
    run.mkdir(parents=True)
    labels = torch.zeros(ROWS, dtype=torch.long)
    wrong = (~right).long()
    logits = torch.nn.functional.one_hot(wrong, 2).float()
    record = ExitRecord(logits, labels, torch.arange(ROWS), torch.full((ROWS,), 5), policies)
    save_record(record, run / "outputs.safetensors", {"exit_layers": exit_layers})
    own = next(iter(policies))
    exits = [{"layer": layer, "acc": 0.5} for layer in exit_layers]
    content = {"metric": "acc", "policy": own, "best_policy": best, "exits": exits, "plain_gflops": 1.0}
    (run / "evaluation.json").write_text(json.dumps(content), encoding="utf-8")
    cell.finish(1800.0, "all")


def first(count):
    """(N,) bool: the first `count` rows."""
    return torch.arange(ROWS) < count


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """4 exits on layers 1..4. Policy `good` lets the half that exit 1 gets right leave there, `bad` the other half."""
    tmp_path = tmp_path_factory.mktemp("study")
    study = Study.checked(**SETTINGS, out=tmp_path / "out", keep="all")
    for cell in cells_of(study):
        last = 36 if cell.seed == 1 else 32
        right = torch.stack([first(20), first(20), first(20), first(last)])
        leave = torch.where(first(20), 0.1, 0.9).expand(4, ROWS)
        stay = 1 - leave
        if cell.recipe == "first_2":
            write_run(cell, first(24 if cell.task == "one" else 20).unsqueeze(0), [2], {"good": leave[:1]})
        elif cell.recipe == "joint":
            write_run(cell, right, [1, 2, 3, 4], {"good": leave, "bad": stay}, best="good")
        elif (cell.task, cell.seed) != ("two", 2):
            write_run(cell, right, [1, 2, 3, 4], {"bad": stay, "good": leave}, best="good")
    (tmp_path / "s.yaml").write_text(
        yaml.safe_dump({**SETTINGS, "out": str(study.out)}, sort_keys=False), encoding="utf-8"
    )
    with redirect_stdout(StringIO()) as printed:
        assert main(["study", "--config", str(tmp_path / "s.yaml"), "--report_only"]) == 0
    return study.out, printed.getvalue()


def rows_of(path):
    return {(r["recipe"], r["choice"], r["at"]): r for r in read_csv(path)}


def test_figures_are_those_of_a_hand_count(reported):
    out, _ = reported
    rows = rows_of(out / "one.csv")
    mean = {key: float(row["mean"]) if row["mean"] else None for key, row in rows.items()}
    assert mean["joint", "own", "1x"] == pytest.approx((36 + 32) / 80)
    # Half leaves at layer 1, half runs 4: a mean of 2.5 layers, 1.6x. For 2x a coin sends a third of the others home.
    assert mean["joint", "own", "2x"] == pytest.approx(0.85 - (0.85 - 0.5) / 3)
    assert mean["other", "own", "2x"] == pytest.approx(0.5)  # those who need the depth have gone
    assert mean["joint", "own", "4x"] == pytest.approx(20 / 40)
    assert mean["other", "own", "4x"] == pytest.approx(20 / 40)
    deviation = float(rows["joint", "own", "1x"]["deviation"])
    assert deviation == pytest.approx((0.9 - 0.8) / 2**0.5)
    low, high = (float(rows["joint", "own", "1x"][end]) for end in ("low", "high"))
    assert low < 0.85 < high
    # good: flat while the first half leaves (1.6x), then down to 0.5; bad: the last layer's gain is lost at once.
    assert mean["joint", "own", "area"] > mean["other", "own", "area"] + 0.05
    assert mean["other", "best", "area"] == pytest.approx(mean["joint", "own", "area"])
    assert rows["other", "own", "1x"]["policies"] == "bad"
    assert rows["other", "best", "1x"]["policies"] == "good"


def test_the_first_layers_alone_are_a_point_against_the_full_depth(reported):
    out, _ = reported
    rows = rows_of(out / "one.csv")
    assert [key for key in rows if key[0] == "first_2"] == [("first_2", "own", "2x"), ("first_2", "best", "2x")]
    assert float(rows["first_2", "own", "2x"]["mean"]) == pytest.approx(24 / 40)
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "| first_2 | 2 | 2x | 60.0 [" in text
    assert text.count("| *first layers alone* | - | - | 60.0 [") == 2, "in the tables of task one, at 2x"


def test_the_report_says_what_is_there_and_what_is_not(reported):
    out, printed = reported
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "11 of 12 runs" in text
    assert "5.5 hours" in text
    assert "Not done: two other seed 2." in text
    assert text.rstrip().endswith(f"python -m mebert study --config {out}/study.yaml --report_only")
    assert str(out / "report.md") in printed
    assert f"python -m mebert compare {out}/one/joint/seed_1/version_0 {out}/one/other/seed_1/version_0" in printed
    for task in ("one", "two"):
        assert (out / f"{task}.png").stat().st_size > 10_000
        assert f"({task}.png)" in text
    one = text[text.index("## one") :]
    assert "| joint | good | **85.0** [" in one
    assert one.count("| other | bad |") == 2, "once a task, with its own rule"


def test_mean_ranks(reported):
    out, _ = reported
    text = (out / "report.md").read_text(encoding="utf-8")
    ranking = text[text.index("## Mean rank") : text.index("## one")]
    own, best = ranking.split("Each recipe with the exit rule that was best")
    # At 2x first_2 is second on task one (0.6) and shares the last two places with `other` on task two (0.5).
    assert "| first_2 | - | 2.2 | - | - |" in own
    # Without seed 2 `other` has 0.9 at 1x on task two, joint 0.85; on task one they are equal.
    assert "| joint | 1.8 | 1.0 | 1.5 | 1.0 |" in own
    assert "| other | 1.2 | 2.8 | 1.5 | 2.0 |" in own
    assert "| joint |" in best
