"""Claims on runs: one owner at a time, and what a dead owner leaves behind is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mebert.commands.study.claim import SILENT_AFTER, Claim


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cell" / "running.json"


def leave(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def this_host():
    import socket

    return socket.gethostname()


def test_one_owner_until_it_is_released(path):
    first, second = Claim(path), Claim(path)
    assert first.take()
    assert not second.take()
    assert second.owner() == f"process {os.getpid()} on {this_host()}"
    first.release()
    assert second.take()


def test_what_a_dead_process_left_is_taken_over(path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    leave(path, pid=ended.pid, host=this_host())
    assert Claim(path).take()
    assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(path.parent.iterdir()) == [path], "nothing is left lying about"


def test_another_machine_is_believed_while_it_gives_signs_of_life(path):
    leave(path, pid=1, host="elsewhere")
    assert not Claim(path).take()
    old = path.stat().st_mtime - SILENT_AFTER - 1
    os.utime(path, (old, old))
    assert Claim(path).take()


def test_a_sign_of_life_is_given_but_not_all_the_time(path, monkeypatch):
    claim = Claim(path)
    claim.take()
    os.utime(path, (1, 1))
    claim.touch()
    assert path.stat().st_mtime == 1, "a claim was just taken"
    monkeypatch.setattr("time.monotonic", lambda: 1e12)
    claim.touch()
    assert path.stat().st_mtime > 1


def test_a_file_half_written_is_somebody_s(path):
    leave(path)
    path.write_text('{"pid"', encoding="utf-8")
    assert not Claim(path).take()


def test_a_claim_that_was_taken_over_meanwhile_is_given_back(path):
    """The other one takes over between our look at a dead owner's claim and our removing it."""
    late, seen = Claim(path), json.dumps({"pid": 0, "host": "dead"})
    other = Claim(path)
    assert other.take()
    assert not late._remove(seen)
    assert json.loads(path.read_text())["pid"] == os.getpid()


def test_where_a_third_one_has_been_quicker_nothing_breaks(path, monkeypatch):
    late, seen = Claim(path), json.dumps({"pid": 0, "host": "dead"})
    assert Claim(path).take()
    link = os.link

    def after_a_third_one(source, target):
        target.write_text("third", encoding="utf-8")
        link(source, target)

    monkeypatch.setattr("os.link", after_a_third_one)
    assert not late._remove(seen)
    assert [p.read_text(encoding="utf-8") for p in path.parent.iterdir()] == ["third"]


def test_of_many_at_once_one_gets_it(path):
    leave(path, pid=2**22 + 1, host=this_host())  # above the largest process id of Linux
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: Claim(path).take(), range(8)))
    assert sum(taken) <= 1
    assert path.exists() == (sum(taken) == 1)
