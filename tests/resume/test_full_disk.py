"""A full disk, a folder that cannot be written: one line, a status that is not 0, the last good file as it was."""

import resource
from pathlib import Path

import pytest
from resume.ends import assert_ends_as_whole, batches_of, command_in, go_on, prepare
from runs import run

from mebert.storage.checkpoints import read_checkpoint


@pytest.fixture
def any_size():
    """Whatever a test allows files to be, others may be larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_full_disk(tmp_path, monkeypatch, capsys, any_size, whole):
    """No file may grow beyond 60 kB from a moment on: the system's own error in the midst of writing a checkpoint."""
    fit = prepare(tmp_path)
    monkeypatch.setenv("LIMIT_AT", "[1, 4, 60000]")
    monkeypatch.setenv("NOTES", "cut.jsonl")
    assert run(*fit, "--experiment", "cut") == 2
    any_size()
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if line.startswith("mebert: error"))
    last = Path("runs/cut/version_0/checkpoints/last.ckpt")
    assert f"{last}: File too large" in line
    assert "Traceback" not in said
    assert batches_of("cut.jsonl")[-1] == [1, 4]
    assert last.stat().st_size > 60000
    assert read_checkpoint(last)["global_step"] == 9
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last-previous.ckpt", "last.ckpt"]
    assert go_on(command_in(line), "rest.jsonl") == [1, 2]
    assert_ends_as_whole("cut", whole)


@pytest.mark.parametrize("section", ["checkpoint", "last_checkpoint"])
def test_a_folder_that_cannot_be_is_told_before_training(tmp_path, monkeypatch, capsys, section):
    Path("notes.txt").write_text("mine")
    monkeypatch.setenv("NOTES", "steps.jsonl")
    assert run(*prepare(tmp_path), f"--{section}.dirpath", "notes.txt/checkpoints") == 2
    said = capsys.readouterr().err
    assert "notes.txt is a file, not a folder; give another path" in said
    assert "Traceback" not in said
    assert not Path("steps.jsonl").exists()
    assert Path("notes.txt").read_text() == "mine"
