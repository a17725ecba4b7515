"""`python -m mebert demo` without a browser: the speeds of its slider, what it shows, and what it refuses."""

import math
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest
import torch
from tiny import tiny_model, words_tokenizer

from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.commands.demo.speeds import Speed, stored_speeds
from mebert.commands.demo.view import SHOWN, render_answer, render_note, render_speed
from mebert.commands.inspect.trace import ExitStep, TextTrace
from mebert.policies import Entropy
from mebert.storage.operating_point import OperatingPoint
from mebert.storage.spec_parts import Expected

HOSTILE = '<img src=x onerror=alert(1)> & "quoted" ${alert(1)} {{value}}'


def classifier(threshold=0.2, points=None, drops=None, expected=()):
    policy = Entropy(threshold=threshold)
    stored = {"operating_points": {"entropy": points or {}}, "max_drops": {"entropy": drops or {}}}
    return EarlyExitClassifier(
        tiny_model(num_labels=2),
        words_tokenizer(),
        policy,
        precision="float32",
        expected={"entropy": expected},
        **stored,
    )


def names(found):
    return [speed.names for speed in found]


def test_speeds_are_ordered_by_their_threshold_and_equal_ones_are_one():
    model = classifier(0.2, {2.0: 0.5, 1.5: 0.2, 1.1: 0.0}, {0.01: 0.3})
    found = stored_speeds(model)
    assert names(found) == [("full depth", "1.1x"), ("1.5x", "default"), ("max_drop 0.01",), ("2x",)]
    assert [speed.policy.threshold for speed in found] == [0.0, 0.2, 0.3, 0.5]
    assert found[0].point.threshold == 0.0
    assert "speedup 2" in str(found[3].point)
    assert names(stored_speeds(model, "max_prob")) == [("full depth",)], "nothing else is stored for it"


def test_thresholds_for_each_exit_are_ordered_by_what_is_expected_of_them():
    low, high = (0.1, 0.6), (0.3, 0.2)
    expected = [Expected(threshold=high, metric="acc", value=0.9, drop=0.0, speedup=1.2, samples=9)]
    found = stored_speeds(classifier(high, {1.9: low}, expected=expected))
    assert names(found) == [("full depth",), ("default",), ("1.9x",)]


@pytest.mark.parametrize(
    ("names", "threshold", "drop", "words"),
    [
        (
            ("full depth", "1.1x"),
            0.0,
            0.0,
            ["Speed 1 of 2: full depth, stored for 1.1x", "all layers", "Accuracy 0.8000, on 45"],
        ),
        (("default",), 0.3, -0.0444, ["the model&#39;s default", "Accuracy 0.8000, no loss, on 45 rows", "few rows"]),
        (("max_drop 0.02",), 0.3, 0.01, ["for a loss of at most 0.02", "0.0100 below the last exit", "threshold 0.3"]),
    ],
)
def test_a_speed_is_said_in_plain_words(names, threshold, drop, words):
    expected = Expected(threshold=threshold, metric="acc", value=0.8, drop=drop, speedup=1.52, samples=45)
    point = OperatingPoint("entropy", threshold, "max_drop 0.005", expected)
    one = Speed(names, Entropy(threshold=threshold), point)
    page = render_speed([one, one], 0)
    assert all(word in page for word in words), page
    assert re.findall(r"<li[^>]*>([^<]*)", page) == ["1x" if threshold == 0 else "1.5x"] * 2
    assert "--" not in page
    assert ("1.52x as fast" in page) == (threshold > 0)


def step(number, decision, *, score=0.25, answer="good", probabilities=None, confidence=0.75):
    shares = {"good": 0.75, "bad": 0.25} if probabilities is None else probabilities
    return ExitStep(
        *(number, number, answer, shares, confidence, 0.5, None, None, None, score, decision),
        gflops=1.0,
        speedup_layers=3 / number,
        speedup_flops=3 / number,
    )


def shown(steps, taken, text="fine", threshold=0.3):
    point = OperatingPoint("entropy", threshold, "max_drop 0.005")
    trace = TextTrace(text, [1, 2, 3], steps, taken, torch.zeros(3, 1, 4))
    return render_answer(trace, Speed(("2x",), Entropy(threshold=threshold), point), 9)


def test_exits_say_what_they_did_and_would_have_answered():
    steps = [step(1, "goes on", score=0.5), step(2, "leaves here"), step(3, "not reached", score=None, answer="bad")]
    page = shown(steps, 2)
    assert re.findall(r'<li class="(\w+)" style="--at: (\d)"', page) == [
        ("passed", "0"),
        ("taken", "1"),
        ("unreached", "2"),
    ]
    reasons = re.findall(r'class="why">([^<]*)<', page)
    assert reasons == [
        "goes on: score 0.5000 ≥ 0.3",
        "leaves here: score 0.2500 &lt; 0.3",
        "not run: would have answered this",
    ]
    assert "2 of 3 layers run, 66.7 % of the full model (1.50x by layers)" in page
    assert "<strong>good</strong> <span>75.0 %</span>" in page
    other = shown(
        [step(1, "not asked", score=math.inf), step(2, "goes on", score=math.inf), step(3, "leaves here", score=None)],
        3,
    )
    reasons = re.findall(r'class="why">([^<]*)<', other)
    assert reasons == [
        "goes on: no text leaves here",
        "goes on: the policy cannot decide yet",
        "leaves here: it is the last exit",
    ]


def test_numbers_several_labels_and_many_labels():
    number = shown([step(1, "leaves here", answer=2.5, probabilities={}, confidence=None)], 1)
    assert "<strong>2.5000</strong></p>" in number
    assert "Probabilities" not in number
    both = shown([step(1, "leaves here", answer=("good", "long"))], 1)
    assert "<strong>good, long</strong> <span>75.0 % at the least certain label</span>" in both
    assert "<strong>none of the labels</strong>" in shown([step(1, "leaves here", answer=())], 1)
    many = shown([step(1, "leaves here", probabilities={f"label {n}": n / 1000 for n in range(40)})], 1)
    assert "label 39" in many
    assert f"and {40 - SHOWN} more labels" in many


def test_texts_labels_and_names_are_escaped():
    page = shown([step(1, "leaves here", answer=HOSTILE, probabilities={HOSTILE: 1.0})], 1, text=(HOSTILE, HOSTILE))
    point = OperatingPoint(HOSTILE, 0.3, HOSTILE)
    for part in (page, render_note(HOSTILE), render_speed([Speed((HOSTILE,), Entropy(threshold=0.3), point)], 0)):
        assert "&lt;img src=x" in part
        assert "<img" not in part


def test_what_is_refused(tmp_path, monkeypatch, capsys):
    def told(*words):
        assert main(["demo", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "model is missing" in told()
    assert "port must be in [0, 65535], got 70000" in told("none", "--port", "70000")
    assert "give another host" in told("none", "--host", "no.such.host.invalid")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"demo cannot listen on 127.0.0.1:{port}" in told("none", "--port", str(port))
    assert "cannot load model 'none'" in told("none", "--port", "0")
    (tmp_path / "manifest.json").touch()
    assert "is an export, which runs no exit behind the one taken" in told(str(tmp_path))
    assert "share" in told("none", "--share", "true")
    monkeypatch.setattr("mebert.commands.demo.run.find_spec", lambda name: None)
    assert told("none").endswith("demo needs gradio, which is not installed: pip install 'mebert[demo]'")


@contextmanager
def served(folder, *words):
    """The command in a process of its own, with its address and what it printed before."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "mebert", "demo", *words, "--port", "0"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **streams) as process:
        try:
            line = process.stdout.readline()
            assert "http://" in line, line + process.stderr.read()
            yield process, re.search(r"http://[\d.]+:\d+", line)[0]
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_the_page_is_served_until_the_command_is_stopped(trained_run, sent, status):
    with served(trained_run, "runs/tiny/version_0", "--policy", "entropy") as (process, address):
        page = urllib.request.urlopen(address, timeout=20).read().decode()
        assert '"title":"mebert: runs/tiny/version_0"' in page
        assert '"analytics_enabled":false' in page
        process.send_signal(sent)
        assert process.wait(20) == status
