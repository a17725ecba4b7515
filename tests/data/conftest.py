"""Small files, and a small stand-in for a task of the Hub."""

import json

import pytest


@pytest.fixture(autouse=True)
def cache(hf_cache):
    """Keep what tests cache away from the user's cache."""
    return hf_cache


@pytest.fixture
def write(tmp_path):
    """Write a file of rows, in the kind that its name says."""

    def write_rows(name, rows):
        path = tmp_path / name
        if isinstance(rows, str):
            path.write_text(rows, encoding="utf-8")
        elif isinstance(rows, bytes):
            path.write_bytes(rows)
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        elif name.endswith(".parquet"):
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            mark = "\t" if name.endswith(".tsv") else ","
            lines = [rows[0].keys(), *(row.values() for row in rows)]
            path.write_text("".join(mark.join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
        return str(path)

    return write_rows


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Serve tables in the place of a Hub data set: hub(validation=[...], ...) of rows."""
    import datasets

    def serve(**splits):
        files = {}
        for name, rows in splits.items():
            files[name] = str(tmp_path / f"{name}.parquet")
            datasets.Dataset.from_list(rows).to_parquet(files[name])

        def load(task):
            return datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "parquet-cache"))

        monkeypatch.setattr("mebert.data.tasks.load_hub_dataset", load)

    return serve
