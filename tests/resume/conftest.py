"""A folder of its own for every test, and one thread: sums taken in another order differ in the last bit."""

import pytest
import torch


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch):
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name in ("NOTES", "PULL_AT", "PULL_WITH", "PULL_TIMES", "SNAPSHOTS", "LIMIT_AT"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
