"""Tests need no network and no account."""

import os
import shutil
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("COLUMNS", None)  # workers of pytest-xdist have one; a test that is about the width sets its own
sys.path.insert(0, str(Path(__file__).parent))  # tests/tiny.py, the tiny real models that tests share


@pytest.fixture(autouse=True)
def own_parts_are_forgotten():
    """Classes of a test's own `my_*.py` files (pages and notebooks show such) are unknown to the next test.

    Policies and encoder families are found among the subclasses that there are, and a class outlives its module.
    """
    yield
    for module in [name for name in sys.modules if name.startswith("my_")]:
        for value in vars(sys.modules.pop(module)).values():
            for mark in ("name", "families"):
                if isinstance(value, type) and value.__module__ == module and mark in vars(value):
                    delattr(value, mark)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The test's own folder as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hf_cache(tmp_path, monkeypatch):
    """A cache of Hugging Face's datasets for one test, in this process and in those that it starts."""
    import datasets

    folder = tmp_path / "hf-cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    """A saved BERT tokenizer of a dozen words, at most 128 tokens a text."""
    from tiny import save_tokenizer

    words = ["a", "the", "cat", "dog", "sat", "ran", "on", "mat", "bad", "good", "film", "movie"]
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"), words, max_length=128)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """The folder of a tiny encoder with a tokenizer of the words of reviews."""
    from tiny import save_encoder

    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A folder with `tiny.yaml` (tests/runs.py) and its finished run `runs/tiny/version_0`; tests must not change it.

    What `fit` printed is beside it, in `printed.txt`.
    """
    from runs import train_tiny

    folder = tmp_path_factory.mktemp("tiny") / "trained"
    printed = train_tiny(folder)
    (folder.parent / "printed.txt").write_text(printed, encoding="utf-8")
    return folder


@pytest.fixture
def in_trained_run(trained_run, tmp_path, monkeypatch):
    """A copy of `trained_run` as the working directory, to be changed at will."""
    folder = tmp_path / "trained"
    shutil.copytree(trained_run, folder)
    monkeypatch.chdir(folder)
    return folder
