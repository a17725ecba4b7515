"""A process that dies takes the others along: soon, with an error, and nothing that is half written stays."""

import pytest
from processes.process_groups import run_group
from processes.process_jobs import fit_until, predict_until

SOON = 60  # seconds, the start of the processes among them


@pytest.mark.parametrize("what", [pytest.param("signal", marks=pytest.mark.slow), "error"])
def test_the_others_end_with_an_error(tmp_path, what):
    end = run_group(2, fit_until, tmp_path, what)
    assert end.codes == [1, -9 if what == "signal" else 1]
    assert end.seconds < SOON
    assert "another process of this run has ended" in end.said[0]
    if what == "error":
        assert "something that only this process has met" in end.said[1]


def test_a_killed_prediction_leaves_its_shards_and_no_table(tmp_path):
    import pyarrow.parquet as pq

    (tmp_path / "out.csv").write_text("an older table", encoding="utf-8")
    end = run_group(2, predict_until, tmp_path)
    assert end.codes == [1, -9]
    assert end.seconds < SOON
    assert "another process of this run has ended" in end.said[0]
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "an older table"
    shards = sorted((tmp_path / "out.csv.shards").glob("part-*.parquet"))
    assert {path.name[:10] for path in shards} == {"part-00000", "part-00001"}
    tables = [pq.read_table(path) for path in shards]
    index = sorted(row for table in tables for row in table["index"].to_pylist())
    assert index == sorted(set(index))
    assert len(index) > 100, "the one that lived has written all of its rows"
    assert tables[0].column_names[:2] == ["index", "label"]
    assert sorted(pq.read_table(tmp_path / "out.csv.shards")["index"].to_pylist()) == index, "read as one"
    assert not list(tmp_path.glob("**/*unfinished*"))
