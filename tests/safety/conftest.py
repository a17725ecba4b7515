"""A trained run that may be changed, and a marker that must not be there at a test's end."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # bombs.py


@pytest.fixture
def here(in_trained_run, monkeypatch):
    """A copy of the trained run as the working directory; modules in it can be imported."""
    monkeypatch.syspath_prepend(str(in_trained_run))
    return in_trained_run


@pytest.fixture
def marker(tmp_path):
    """What the bombs would make; that it is not there is looked up when the test is over."""
    path = tmp_path / "the code has run"
    yield path
    assert not path.exists(), "code of a given file has run"
