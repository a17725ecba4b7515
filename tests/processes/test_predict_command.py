"""`predict` through the command line: streamed or read at once, the table is the same."""

import csv

import pytest
from runs import experiment, run, write_config

TEXTS = [("anna can swim", "anna can swim"), ("ben cannot, run", "ben can run"), ("", "somebody will sing")] * 40


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    settings["curve"]["wall_samples"] = 0
    settings["test_after_fit"] = False
    write_config(tmp_path, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("hypothesis", "premise"), *TEXTS])
    return tmp_path


def test_streamed_or_read_at_once(trained, capsys):
    given = ["predict", "--config", "tiny.yaml", "--ckpt_path", "best", "--data.predict_file", "rows.csv"]
    given += ["--data.eval_batch_size", "7"]
    with pytest.warns(UserWarning, match="blank"):
        assert run(*given, "--out", "whole.csv", "--data.streaming", "false") == 0
    capsys.readouterr()
    with pytest.warns(UserWarning, match=r"rows\.csv, line 4: an empty or blank text"):
        assert run(*given, "--out", "new/streamed.csv", "--data.streaming", "true", "--engine", "refill") == 0
    said = capsys.readouterr().out
    assert "new/streamed.csv (120 rows)" in said
    assert "of 3" in said
    tables = []
    for name in ("whole.csv", "new/streamed.csv"):
        with (trained / name).open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    assert [(row["hypothesis"], row["premise"]) for row in tables[0]] == TEXTS
    for one, other in zip(*tables, strict=True):
        numbers = [name for name in one if name.startswith("prob_")]
        assert {n: v for n, v in one.items() if n not in numbers} == {
            n: v for n, v in other.items() if n not in numbers
        }
        assert [float(other[n]) for n in numbers] == pytest.approx([float(one[n]) for n in numbers], abs=1e-4)
    assert [path.name for path in (trained / "new").iterdir()] == ["streamed.csv"], "no shards stay"
    assert run(*given, "--out", "dry.csv", "--data.streaming", "true", "--trainer.fast_dev_run", "true") == 0
    assert not list(trained.glob("dry*"))

    (trained / "rows.csv").write_text("hypothesis,premise\na,b\n" * 1 + "a,b\n" * 1500 + "a\n", encoding="utf-8")
    assert run(*given, "--out", "late.csv", "--data.streaming", "true") == 2
    assert "line 1503: 1 field(s) where the header has 2" in capsys.readouterr().err
    assert not (trained / "late.csv").exists()
