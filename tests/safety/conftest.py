"""One trained run, of which every test gets a copy, and a marker that must not be there at its end."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from runs import experiment, run, write_config

sys.path.insert(0, str(Path(__file__).parent))  # bombs.py


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder with the experiment's YAML and a run of one epoch."""
    folder = tmp_path_factory.mktemp("finished")
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run("fit", "--config", str(write_config(folder, settings))) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A copy of the finished run's folder as the working directory; modules in it can be imported."""
    folder = tmp_path / "here"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def marker(tmp_path):
    """What the bombs would make; that it is not there is looked up when the test is over."""
    path = tmp_path / "the code has run"
    yield path
    assert not path.exists(), "code of a given file has run"
