"""`predict` through the command line: streamed or read at once, the table is the same."""

import pytest
from runs import read_csv, run, write_rows

TEXTS = [("anna can swim", "anna can swim"), ("ben cannot, run", "ben can run"), ("", "somebody will sing")] * 40


@pytest.mark.slow
def test_streamed_or_read_at_once(in_trained_run, capsys):
    folder = in_trained_run
    write_rows(folder / "rows.csv", [dict(zip(("hypothesis", "premise"), pair, strict=True)) for pair in TEXTS])
    given = ["predict", "--config", "tiny.yaml", "--ckpt_path", "best", "--data.predict_file", "rows.csv"]
    given += ["--data.eval_batch_size", "7"]
    with pytest.warns(UserWarning, match="blank"):
        assert run(*given, "--out", "whole.csv", "--data.streaming", "false") == 0
    capsys.readouterr()
    with pytest.warns(
        UserWarning, match=r"40 of 120 texts \(33\.3 %\) are empty or blank, the first at rows\.csv, line 4"
    ):
        assert run(*given, "--out", "new/streamed.csv", "--data.streaming", "true", "--engine", "refill") == 0
    said = capsys.readouterr().out
    assert "new/streamed.csv (120 rows)" in said
    assert "of 3" in said
    tables = [read_csv(folder / name) for name in ("whole.csv", "new/streamed.csv")]
    assert [(row["hypothesis"], row["premise"]) for row in tables[0]] == TEXTS
    for one, other in zip(*tables, strict=True):
        numbers = [name for name in one if name.startswith("prob_")]
        assert [float(other.pop(n)) for n in numbers] == pytest.approx([float(one.pop(n)) for n in numbers], abs=1e-4)
        assert one == other
    assert [path.name for path in (folder / "new").iterdir()] == ["streamed.csv"], "no shards stay"
    assert run(*given, "--out", "dry.csv", "--data.streaming", "true", "--trainer.fast_dev_run", "true") == 0
    assert not list(folder.glob("dry*"))

    (folder / "rows.csv").write_text("hypothesis,premise\n" + "a,b\n" * 1501 + "a\n", encoding="utf-8")
    assert run(*given, "--out", "late.csv", "--data.streaming", "true") == 2
    assert "line 1503: 1 field(s) where the header has 2" in capsys.readouterr().err
    assert not (folder / "late.csv").exists()
