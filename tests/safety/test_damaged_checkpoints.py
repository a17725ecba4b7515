"""Any plain value in any place of a checkpoint: it is of no consequence, or refused in one line."""

import contextlib
import io
import re
from copy import deepcopy

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from runs import run

from mebert.commands.inspect.source import open_model
from mebert.errors import UserError

ODD = "runs/tiny/version_0/checkpoints/odd.ckpt"
SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PLAIN = st.sampled_from([None, True, -1, 0, 1, 7, 10**19, 0.5, float("nan"), float("inf"), "", "x", (), [], {}])
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=2), st.dictionaries(st.sampled_from(["a", "x", 1]), PLAIN))
RESUMED = ("loops", "callbacks", "optimizer_states", "lr_schedulers", "resume", "epoch", "global_step")


def places(value, path=()):
    """The path of every value; of long lists and tables only the ends."""
    yield path
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        for key in [*keys[:12], *keys[12:][-2:]]:
            yield from places(value[key], (*path, key))


@st.composite
def damaged(draw, content, parts):
    """A copy with a value in these parts replaced or removed."""
    content = deepcopy(content)
    part = draw(st.sampled_from([name for name in parts if name in content]))
    path = (part, *draw(st.sampled_from(list(places(content[part])))))
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    if draw(st.integers(0, 3)) == 0:
        del holder[path[-1]]
    else:
        value = draw(VALUES)
        assume(not (isinstance(holder[path[-1]], bool) and value is True))  # a switch of the optimiser: another one
        holder[path[-1]] = value
    return content


@pytest.fixture
def last(in_trained_run):
    return torch.load("runs/tiny/version_0/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.slow
def test_what_mebert_stores(last):
    told = []

    @settings(SETTINGS, max_examples=40)
    @given(damaged(last, ("mebert", "hyper_parameters", "epoch", "pytorch-lightning_version")))
    def check(content):
        torch.save(content, ODD)
        try:
            open_model(ODD, "cpu", "float32").classifier([("a dog", "a cat")])
        except UserError as error:
            told.append(str(error))

    check()
    assert len(told) > 12
    for line in told:
        assert "odd.ckpt" in line or "saved" in line, line
        assert "\n" not in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "args", "examples"),
    [
        (RESUMED, ["fit", "--trainer.max_epochs", "3", "--test_after_fit", "false"], 12),
        (("mebert", "hyper_parameters"), ["test"], 8),
    ],
    ids=["fit", "test"],
)
def test_commands(parts, args, examples, last):
    @settings(SETTINGS, max_examples=examples)
    @given(damaged(last, parts))
    def check(content):
        torch.save(content, ODD)
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            status = run(*args, "--config", "tiny.yaml", "--ckpt_path", ODD)
        told = [line for line in errors.getvalue().splitlines() if line.startswith("mebert: error: ")]
        assert (status, len(told)) in ((0, 0), (2, 1)), errors.getvalue()

    check()


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("mebert", "operating_points"), {"edr": 3}, "mebert.operating_points.edr: .*dictionary, got 3"),
        (("mebert", "operating_points"), {"edr": {2.0: "x"}}, "mebert.operating_points.edr.2.0: .*number, got 'x'"),
        (("mebert", "policy"), "edr", "mebert.policy: .*dictionary, got 'edr'"),
        (("mebert", "texts", "max_length"), 0, "mebert.texts.max_length: .*greater than 0, got 0"),
        (("mebert", "exit_temperatures"), [0.0], "mebert.exit_temperatures.0: .*greater than 0, got 0.0"),
        (("epoch",), "x", "epoch: .*integer, got 'x'"),
        (("loops", "fit_loop", "epoch_progress", "current"), 3, "epoch_progress.current must be counts, not 3"),
        (("loops", "fit_loop", "epoch_progress", "current", "ready"), "x", "current.ready must be a count, not 'x'"),
        (("loops", "fit_loop", "epoch_progress", "current"), {"x": {}}, "current must have the counts ready and"),
        (("loops", "fit_loop"), {}, "epoch_progress must have total and current"),
        (("loops", "test_loop"), {"batch_progress": 3}, "batch_progress must be counts, not 3"),
        (("optimizer_states", 0, "param_groups", 0, "lr"), float("nan"), "param_groups.0.lr"),
        (("lr_schedulers", 0, "last_epoch"), "x", "lr_schedulers.0.last_epoch: .*integer, got 'x'"),
        (("resume", "train_loader"), 3, "resume.train_loader: .*got 3"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_a_value_is_named(path, value, says, last, capsys):
    holder = last
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    torch.save(last, ODD)
    assert run("fit", "--config", "tiny.yaml", "--ckpt_path", ODD, "--trainer.max_epochs", "3") == 2
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mebert: error: ")]
    assert "odd.ckpt" in told
    assert re.search(says, told), told
