"""Ctrl-C and kill -9 at any moment of `calibrate` and `compare`: every file is as before or as after."""

import json
import os
import shutil
import signal
import threading
import time

import pytest

import mebert
from mebert.cli.main import main

RUN = "runs/tiny/version_0"
SPEC = f"{RUN}/model/exits.json"
COMMANDS = {
    "calibrate": ["calibrate", RUN, "--speedup", "1.3", "--max_drop", "0.5"],
    "compare": ["compare", RUN, RUN, "--out", "page.html"],
}
MOMENTS = 8


def written(folder):
    """The content of what the commands write; None: it is not there."""
    page = folder / "page.html"
    return (folder / SPEC).read_bytes(), page.read_text() if page.is_file() else None


@pytest.fixture
def ends(in_trained_run, monkeypatch):
    """The commands' seconds, and what they leave when nobody stops them."""

    def measure(command):
        before = written(in_trained_run)
        main(command)  # the first one imports
        shutil.copy(SPEC, "kept.json")
        (in_trained_run / SPEC).write_bytes(before[0])
        (in_trained_run / "page.html").unlink(missing_ok=True)
        start = time.perf_counter()
        assert main(command) == 0
        seconds, after = time.perf_counter() - start, written(in_trained_run)
        return seconds, before, after

    return measure


def put_back(folder, before):
    (folder / SPEC).write_bytes(before[0])
    (folder / "page.html").unlink(missing_ok=True)


def check(folder, before, after):
    spec, page = written(folder)
    assert spec in (before[0], after[0])
    assert page is None or page.rstrip().endswith("</html>")
    assert json.loads(spec)["num_labels"] == 3


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_ctrl_c(command, ends, in_trained_run, capsys):
    seconds, before, after = ends(command)
    found = set()
    moments = [seconds * moment / MOMENTS for moment in range(MOMENTS)]
    earlier = [seconds / 2**n for n in range(4, 10)]  # where the measured time was that of a busy machine
    for moment in [*moments, *earlier]:
        if moment in earlier and 130 in found:
            break
        put_back(in_trained_run, before)
        capsys.readouterr()
        stop = threading.Timer(moment, os.kill, (os.getpid(), signal.SIGINT))
        try:
            stop.start()
            status = main(command)
            stop.cancel()
            stop.join()
        except KeyboardInterrupt:  # it came when the command had ended
            continue
        assert status in (0, 130)
        found.add(status)
        told = capsys.readouterr().err
        assert "Traceback" not in told
        assert ("mebert: stopped" in told) == (status == 130)
        check(in_trained_run, before, after)
        assert not list(in_trained_run.rglob("*.unfinished"))
    assert 130 in found


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_kill_9(command, ends, in_trained_run):
    seconds, before, after = ends(command)
    for moment in range(MOMENTS):
        put_back(in_trained_run, before)
        child = os.fork()
        if not child:
            os._exit(main(command))
        time.sleep(seconds * (moment + 0.5) / MOMENTS)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        check(in_trained_run, before, after)
    assert mebert.EarlyExitClassifier.from_pretrained(RUN)("a dog").label
    assert main(command) == 0, "nothing is left that is in the way"
    assert written(in_trained_run)[0] == after[0]
