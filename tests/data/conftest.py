"""Small files, and a small stand-in for a task of the Hub."""

import pytest
from runs import write_rows


@pytest.fixture(autouse=True)
def cache(hf_cache):
    """Keep what tests cache away from the user's cache."""
    return hf_cache


@pytest.fixture
def write(tmp_path):
    """Write a file of rows in the format that its name says, or of any content; returns its path."""

    def write_file(name, content):
        path = tmp_path / name
        if isinstance(content, list):
            return write_rows(path, content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write_file


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Serve tables in the place of a Hub data set: hub(validation=[...], ...) of rows."""
    import datasets

    def serve(**splits):
        files = {name: write_rows(tmp_path / f"{name}.parquet", rows) for name, rows in splits.items()}

        def load(task):
            return datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "parquet-cache"))

        monkeypatch.setattr("mebert.data.tasks.load_hub_dataset", load)

    return serve
