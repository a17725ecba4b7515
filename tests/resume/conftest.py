"""A folder of its own for every test, and one thread: sums taken in another order differ in the last bit."""

import pytest
import torch
from resume.ends import prepare
from runs import run


@pytest.fixture(autouse=True)
def world(here, hf_cache, monkeypatch):
    for name in ("NOTES", "PULL_AT", "PULL_WITH", "PULL_TIMES", "SNAPSHOTS", "LIMIT_AT"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """`runs/whole`, which nobody stops, its batches in `whole.jsonl`, and what kills at two moments leave."""
    folder = tmp_path_factory.mktemp("whole")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NOTES", "whole.jsonl")
        patch.setenv("SNAPSHOTS", '[[0, 4, "runs/cut_0_4"], [1, 6, "runs/cut_1_6"]]')
        assert run(*prepare(folder), "--experiment", "whole") == 0
    torch.set_num_threads(before)
    return folder
