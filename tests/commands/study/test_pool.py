"""Running cells: how many at a time, failures, and an end before the end; the runs are stand-ins."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import yaml
from runs import experiment

from mebert.cli.main import main
from mebert.commands.study import pool as runner
from mebert.commands.study.cell import CellFolder
from mebert.commands.study.grid import cells_of
from mebert.commands.study.settings import Study


@pytest.fixture
def cells(tmp_path):
    base = experiment()
    del base["experiment"]
    settings = {"name": "tiny", "out": str(tmp_path / "out"), "base": base, "tasks": {"task": {}}, "keep": "all"}
    settings |= {"recipes": {"one": {}, "two": {}}, "seeds": [1, 2], "targets": [1]}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return cells_of(Study.checked(**settings))


@pytest.fixture
def stand_in(monkeypatch):
    """Lets every run be a small Python program instead.

    Returns a list of (command, arguments of Popen, process), and one of how many were running when each was started.
    """
    real = subprocess.Popen

    def use(program):
        started, running = [], []

        def popen(command, **more):
            started.append((command, more, real([sys.executable, "-c", program], **more)))
            running.append(sum(process.poll() is None for _, _, process in started))
            return started[-1][2]

        monkeypatch.setattr(runner.subprocess, "Popen", popen)
        return started, running

    return use


def test_no_more_than_jobs_at_a_time_each_with_its_threads(cells, stand_in):
    started, running = stand_in("import sys, time; time.sleep(0.3); print('broken'); sys.exit(3)")
    outcome = runner.run_cells(cells, jobs=2, threads=5, keep="all")
    assert sorted(cell.name for cell in outcome.failed) == sorted(cell.name for cell in cells)
    assert max(running) == 2
    assert len(started) == len(cells)
    for cell, (command, more, _) in zip(cells, started, strict=True):
        assert command == [sys.executable, "-m", "mebert", "fit", "--config", str(cell.folder / "cell.yaml")]
        assert more["env"]["OMP_NUM_THREADS"] == "5"
        assert CellFolder(cell).log.read_text(encoding="utf-8") == "broken\n"
        assert not CellFolder(cell).claim.path.exists()


def test_failures_are_told_with_their_last_words_and_the_others_go_on(cells, stand_in, tmp_path, capsys):
    started, _ = stand_in("import sys; print('before'); print('mebert: error: no such thing'); sys.exit(2)")
    assert main(["study", "--config", str(tmp_path / "s.yaml")]) == 1
    printed = capsys.readouterr().out
    assert len(started) == 4
    for cell in cells:
        log = CellFolder(cell).log
        assert f"{cell.name} failed with status 2; the end of {log}:\n    before\n    mebert: error: no such" in printed
    assert "4 of 4 runs failed; to try them again: python -m mebert study --config" in printed


def test_success_without_an_evaluation_is_a_failure(cells, stand_in, capsys):
    stand_in("")
    outcome = runner.run_cells(cells[:1], jobs=1, threads=1, keep="all")
    assert outcome.failed == cells[:1]
    assert "has no evaluation.json" in capsys.readouterr().out
    assert CellFolder(cells[0]).done() is None


def test_no_report_on_results_of_other_settings_that_were_not_asked_for(cells, stand_in, tmp_path, capsys):
    """`--only` looks at its own runs; the report at the end is on all of them."""
    for cell in cells[1:]:
        (cell.folder / "version_0").mkdir(parents=True)
        (cell.folder / "version_0/evaluation.json").write_text("{}", encoding="utf-8")
        CellFolder(cell).config.write_text(yaml.safe_dump({**cell.config, "seed_everything": 77}), encoding="utf-8")
        CellFolder(cell).finish(1.0, "all")
    run = cells[0].folder / "version_0"
    content = '{"metric": "acc", "exits": [{"acc": 1.0}]}'
    stand_in(
        f"from pathlib import Path; p = Path({str(run)!r}); p.mkdir(); (p / 'evaluation.json').write_text({content!r})"
    )
    assert main(["study", "--config", str(tmp_path / "s.yaml"), "--only", cells[0].only]) == 2
    captured = capsys.readouterr()
    assert f"[1/1] {cells[0].name}: acc 1.0000" in captured.out
    assert "3 of the study's runs were done with other settings" in captured.err


def test_ctrl_c_ends_the_runs_and_gives_the_cells_back(cells, stand_in, monkeypatch, tmp_path, capsys):
    started, _ = stand_in("import time; time.sleep(60)")
    polls = iter([False, False, True])

    def interrupted(seconds, sleep=time.sleep):
        if next(polls, False):
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(runner.time, "sleep", interrupted)
    assert main(["study", "--config", str(tmp_path / "s.yaml"), "--jobs", "2"]) == 130
    assert "this goes on from the last checkpoints: python -m mebert study --config" in capsys.readouterr().out
    assert len(started) == 2
    assert all(process.poll() is not None for _, _, process in started)
    assert not list(tmp_path.rglob("running.json"))


def test_a_run_that_a_signal_ended_is_told_as_such(cells, stand_in, capsys):
    stand_in("import os; os.kill(os.getpid(), 9)")
    assert runner.run_cells(cells[:1], jobs=1, threads=1, keep="all").failed == cells[:1]
    assert "was ended by signal 9" in capsys.readouterr().out
