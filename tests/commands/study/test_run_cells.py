"""Running cells: how many at a time, failures, one owner, and an end before the end; most runs are stand-ins."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml
from runs import experiment

from mebert.cli.main import main
from mebert.commands.study import run_cells as runner
from mebert.commands.study.owner import exclusive_owner
from mebert.commands.study.run import Runs
from mebert.commands.study.settings import Study, cells_of
from mebert.errors import UserError
from mebert.runtime.parent import WATCH_STDIN


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


def study(folder, *more):
    return main(["study", "--config", str(folder / "s.yaml"), *more])


def test_no_more_than_jobs_at_a_time_each_with_its_threads(cells, stand_in):
    started, running = stand_in("import time; time.sleep(0.3); print('broken'); exit(3)")
    results = list(runner.run_locally(cells, threads=5, keep="all", jobs=2))
    assert sorted(cell.name for cell, _ in results) == sorted(cell.name for cell in cells)
    assert max(running) == 2
    commands = {command[-1]: (command[:-1], more) for command, more, _ in started}
    for cell in cells:
        command, more = commands[str(cell.folder / "cell.yaml")]
        assert command == [sys.executable, "-m", "mebert", "fit", "--config"]
        assert more["env"]["OMP_NUM_THREADS"] == "5"
        assert cell.log.read_text(encoding="utf-8") == "broken\n"


@pytest.mark.parametrize(("given", "threads"), [("3", 3), ("", None), ("2,1", None)])
def test_threads_are_those_of_the_environment_else_shared_cores(given, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(8), raising=False)
    assert Runs(jobs=2).each_threads() == (threads or 4)
    assert Runs(jobs=2, threads=7).each_threads() == 7


@pytest.mark.parametrize(
    ("program", "reason", "last"),
    [
        ("print('before'); print('mebert: error: no such thing'); exit(2)", "failed with status 2", "no such thing"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9", ""),
        ("", "failed: ", "has no evaluation.json"),
    ],
)
def test_failures_are_told_with_the_end_of_their_log_and_the_others_go_on(
    cells, stand_in, tmp_path, capsys, program, reason, last
):
    started, _ = stand_in(program)
    assert study(tmp_path) == 1
    printed = capsys.readouterr().out
    assert len(started) == 4
    for cell in cells:
        assert f"{cell.name} {reason}" in printed
    assert last in printed
    assert "4 of 4 runs failed; to try them again: python -m mebert study --config" in printed


def test_no_report_on_results_of_other_settings_that_were_not_asked_for(cells, stand_in, tmp_path, capsys):
    """`--only` looks at its own runs; the report at the end is on all of them."""
    for cell in cells[1:]:
        (cell.folder / "version_0").mkdir(parents=True)
        (cell.folder / "version_0/evaluation.json").write_text("{}", encoding="utf-8")
        cell.config_file.write_text(yaml.safe_dump({**cell.config, "seed_everything": 77}), encoding="utf-8")
        cell.finish(1.0, "all")
    run = cells[0].folder / "version_0"
    content = '{"policy": "edr", "metric": "acc", "exits": [{"layer": 1, "acc": 1.0}], "plain_gflops": 1.0}'
    stand_in(
        f"from pathlib import Path; p = Path({str(run)!r}); p.mkdir(); (p / 'evaluation.json').write_text({content!r})"
    )
    assert study(tmp_path, "--only", cells[0].only) == 2
    captured = capsys.readouterr()
    assert f"[1/1] {cells[0].name}: acc 1.0000" in captured.out
    assert "3 of the study's runs were done with other settings" in captured.err


def test_a_second_study_on_the_folder_is_refused_and_names_the_first(cells, stand_in, tmp_path, capsys):
    stand_in("exit(3)")
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    with exclusive_owner(tmp_path / "out"):
        assert study(tmp_path) == 2
        told = capsys.readouterr().err.splitlines()
        assert [line for line in told if "error" in line] == [
            f"mebert: error: {tmp_path}/out is being run by {owner}: wait until it has ended, or stop it"
        ]
        assert study(tmp_path, "--only", cells[0].only) == 1, "a line of --list locks its cell alone"
    with exclusive_owner(cells[1].folder):
        assert study(tmp_path, "--only", cells[1].only) == 1
    assert f"{cells[1].name} failed: {cells[1].folder} is being run by {owner}" in capsys.readouterr().out
    assert study(tmp_path) == 1, "the lock is free again"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_signals_end_the_runs(cells, stand_in, monkeypatch, tmp_path, capsys, end):
    started, _ = stand_in("import sys; sys.stdin.read()")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore Ctrl-C

    def interrupted(futures):
        while len(started) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), end)
        time.sleep(60)

    monkeypatch.setattr(runner, "as_completed", interrupted)
    if end == signal.SIGTERM:
        with pytest.raises(SystemExit, match="143"):
            study(tmp_path, "--jobs", "2")
    else:
        assert study(tmp_path, "--jobs", "2") == 130
        assert "this goes on from the last checkpoints: python -m mebert study --config" in capsys.readouterr().out
    assert len(started) == 2
    assert all(process.poll() is not None for _, _, process in started)


def alive(pids):
    """Those of some processes that still run; a zombie, which nobody has waited for, does not."""
    shown = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-p", ",".join(pids)], capture_output=True, text=True, check=False
    )
    return [line for line in shown.stdout.splitlines() if " Z" not in line]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


PARENT = """
import subprocess, sys
from pathlib import Path
from mebert.commands.study.owner import exclusive_owner
with exclusive_owner(Path(sys.argv[2])):
    run = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
    print(run.pid, flush=True)
    run.wait()
"""
RUN = """
import time
from mebert.runtime.parent import end_with_parent
end_with_parent()
print("runs", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("name", [WATCH_STDIN, "LOCAL_RANK"], ids=["a run of a study", "a process of DDP"])
def test_a_process_ends_with_the_one_that_started_it(tmp_path, name):
    """Its lock, too, is free at once."""
    environment = {**os.environ, name: "1"}
    command = [sys.executable, "-c", PARENT, RUN, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        pid = parent.stdout.readline().strip()
        assert parent.stdout.readline() == "runs\n"
        assert alive([pid])
        with pytest.raises(UserError, match=f"by process {parent.pid} on"), exclusive_owner(tmp_path):
            pass
        parent.kill()
    wait_for(lambda: not alive([pid]))
    with exclusive_owner(tmp_path):
        pass


STUDY = """
import sys
from pathlib import Path
from mebert.commands.study.cell import Cell
from mebert.commands.study.run_cells import run_cell
sys.executable = sys.argv[1]
folder = Path(sys.argv[2])
print(run_cell(Cell("recipe", "task", 1, folder / "cell", {}), 1, "all", folder))
"""
LAST_STEP = """
import signal, sys, time
from mebert.runtime.parent import end_with_parent
def note(what):
    with open("notes.txt", "a") as file:
        file.write(what + chr(10))
def stop(*_):
    time.sleep(1.5)  # the step is finished, the last checkpoint written
    note("ended")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
end_with_parent()
note("started")
time.sleep(60 if open("notes.txt").read().count("started") == 1 else 0)
note("ended")
"""


@pytest.mark.slow
def test_the_rerun_of_a_killed_study_waits_for_its_run(tmp_path):
    """A run finishes its step after its study was killed: the next one goes on from there, not beside it."""
    python, notes = tmp_path / "python", tmp_path / "notes.txt"
    (tmp_path / "run.py").write_text(LAST_STEP)
    python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/run.py\n")
    python.chmod(0o755)
    command = [sys.executable, "-c", STUDY, str(python), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(command, env=environment) as first:
        wait_for(notes.exists)
        first.kill()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "has no evaluation.json" in again.stdout, "the stand-in ended well"
    assert notes.read_text().split() == ["started", "ended", "started", "ended"]


@pytest.mark.slow
@pytest.mark.parametrize("where", [["--jobs", "2"], ["--ray", "local"]], ids=["here", "ray"])
def test_a_study_that_is_killed_leaves_no_run_behind(cells, tmp_path, where):
    """Real runs and a real SIGKILL: what it has started ends by itself, with a checkpoint to go on from."""
    if "--ray" in where:
        pytest.importorskip("ray")
    settings = yaml.safe_load((tmp_path / "s.yaml").read_text(encoding="utf-8"))
    settings["base"]["trainer"]["max_epochs"] = 10_000
    settings["seeds"] = [1]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "mebert", "study", "--config", "s.yaml", "--threads", "1", *where]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(tmp_path.glob("out/*/*/*/version_0/metrics.csv"))) == 2)
        runs = ["pgrep", "-f", f"mebert fit --config {tmp_path}"]
        pids = subprocess.run(runs, capture_output=True, text=True, check=True).stdout.split()
        assert len(pids) == 2
        process.kill()
    wait_for(lambda: not alive(pids))
    assert len(list(tmp_path.glob("out/*/*/*/version_0/checkpoints/last.ckpt"))) == 2
    with exclusive_owner(tmp_path / "out"):
        pass


def test_runs_as_ray_tasks(cells, tmp_path, capsys):
    pytest.importorskip("ray")
    assert study(tmp_path, "--ray", "local", "--threads", "1", "--only", "seed=1") == 0
    printed = capsys.readouterr().out
    assert "2 runs, on Ray (local), 1 thread(s) each" in printed
    assert "[2/2] task" in printed
    assert [cell.done() is not None for cell in cells] == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ray", "auto"], "ray was given, but Ray is not installed: pip install 'mebert[ray]'"),
        (["--ray_gpus", "1"], "ray_gpus must be at least 0, and needs --ray <address>; got 1"),
    ],
)
def test_ray_is_optional(cells, tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert study(tmp_path, *options) == 2
    assert said in capsys.readouterr().err
