"""Whatever it is given, the code returns what it documents or raises a `UserError`."""

import contextlib
import io
import json
import shlex
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import tiny_model
from torch import nn

from mebert import policies
from mebert.calibration import guaranteed_threshold
from mebert.cli.main import main
from mebert.data.files import load_file
from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord, replay
from mebert.models.prototypes import PrototypeBank

FAST = settings(
    deadline=None,
    max_examples=40,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

EXITS, CLASSES = 3, 3
PUBLIC = [getattr(policies, name) for name in policies.__all__]
POLICIES = [kind for kind in PUBLIC if getattr(kind, "name", policies.ExitPolicy.name) != policies.ExitPolicy.name]
POLICIES.remove(policies.ValueChange)  # for numbers


@pytest.fixture(scope="module")
def model():
    """A model that every policy for classes can be bound to."""
    torch.manual_seed(0)
    found = tiny_model("bert", prototypes=PrototypeBank(EXITS - 1, 32, CLASSES, dim=8, gamma=0.1))
    found.prototypes.prototypes.copy_(torch.randn_like(found.prototypes.prototypes))
    found.exit_scorer = nn.Linear(32, 1)
    return found.eval()


NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 3.0, -40.0, 1e4, -1e30, float("inf"), -float("inf"), float("nan")])
THRESHOLDS = st.floats(0.0, 1.0, allow_nan=False)


def filled(shape, values, spread):
    """A tensor of random numbers, with some of the given ones in it."""
    generator = torch.Generator().manual_seed(spread)
    tensor = torch.randn(shape, generator=generator) * (spread % 5)
    flat = tensor.view(-1)
    for place, value in enumerate(values[: flat.numel()]):
        flat[(place * 7 + spread) % flat.numel()] = value
    return tensor


# ---- policies --------------------------------------------------------------------------------------------------------


@FAST
@given(st.sampled_from(POLICIES), st.integers(0, 6), st.integers(0, 99), st.lists(NUMBERS, max_size=9), THRESHOLDS)
def test_policies_name_an_exit_whatever_an_exit_says(model, kind, rows, spread, values, threshold):
    policy = kind().bind(model)
    logits = filled((EXITS, rows, CLASSES), values, spread)
    features = filled((EXITS, rows, 32), values[::-1], spread + 1)
    scores = policy.score_exits(logits, features)
    assert scores.shape == (EXITS, rows)
    earlier, later = sorted([threshold, threshold / 2 + 0.25])
    exits = [replay(scores.clone(), at) for at in (0.0, earlier, later, float("inf"))]
    for found in exits:
        assert found.shape == (rows,)
        assert bool(((found >= 0) & (found < EXITS)).all())
    for stricter, looser in pairwise(exits):
        assert bool((looser <= stricter).all()), "a larger threshold lets nobody leave later"
    assert bool((exits[0] == EXITS - 1).all() or kind is policies.FixedExit), "0 lets nobody leave early"


# ---- calibration -----------------------------------------------------------------------------------------------------


@settings(FAST, max_examples=15)
@given(st.integers(1, 120), st.floats(0.01, 0.4), st.floats(0.01, 0.4), st.floats(0.01, 0.5), st.integers(0, 99))
def test_guarantees_are_monotone_or_refused(samples, one, other, delta, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (samples,), generator=generator)
    logits = torch.randn(2, samples, 2, generator=generator)
    scores = torch.rand(2, samples, generator=generator)
    record = ExitRecord(logits, labels, torch.arange(samples), torch.full((samples,), 5))
    found = []
    for epsilon in sorted([one, other]):
        try:
            guarantee = guaranteed_threshold(record, scores, epsilon, delta)
        except UserError:  # too few samples
            continue
        assert 0.0 <= guarantee.threshold <= 1.0
        assert guarantee.measured <= epsilon or guarantee.threshold == 0.0
        found.append(guarantee.threshold)
    assert found == sorted(found), "who allows more loss gets no stricter threshold"


# ---- files -----------------------------------------------------------------------------------------------------------

ENDINGS = st.sampled_from(["csv", "tsv", "jsonl", "parquet"])
CELLS = st.text(st.sampled_from("ab ,;\t\"'\n\r\\0é\u2028\ud800{}[]"), max_size=6)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=4,
)


TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=4)
ROWS = st.lists(st.one_of(VALUES, st.fixed_dictionaries({"text": VALUES, "label": VALUES})), max_size=4)


def table(ending, rows):
    mark = "\t" if ending == "tsv" else ","
    return "\n".join(mark.join(row) for row in [["text", "label"], *rows]).encode(errors="surrogatepass")


FILES = st.one_of(
    st.tuples(ENDINGS, st.binary(max_size=60)),
    st.tuples(st.sampled_from(["csv", "tsv"]), TABLES).map(lambda drawn: (drawn[0], table(*drawn))),
    st.tuples(st.just("csv"), st.binary(max_size=60).map(lambda content: b"text,label\n" + content)),
    ROWS.map(lambda rows: ("jsonl", "\n".join(map(json.dumps, rows)).encode())),
)


@settings(FAST, max_examples=290)
@given(FILES)
def test_any_file_is_rows_or_a_mistake(tmp_path, drawn):
    ending, content = drawn
    path = tmp_path / f"any.{ending}"
    path.write_bytes(content)
    rows, mistake = None, ""
    try:
        rows = load_file(str(path), ["text"], "label")
    except UserError as error:
        mistake = str(error)
    if rows is None:
        assert path.name in mistake
        return
    assert len(rows) >= 1
    assert all(cell is None or isinstance(cell, str) for column in ("text", "label") for cell in rows[column])


# ---- configurations and command lines --------------------------------------------------------------------------------

YAML = st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@\n \t,?<~1.é\x00"), max_size=40)


WORDS = st.sampled_from(
    shlex.split(
        "--config --config=any.yaml any.yaml none.yaml --model --data --model.lr --speedups [1 [.nan] {a --out -x -- - "
        "'' null --speedup 2 -1 --policies entropy é --trainer.max_epochs --no --help= =1 --a.b.c ../x runs --list "
        "--print_config=x"
    )
)


def outcome(args):
    """The exit status of a command line; nothing but a `SystemExit` may stand in its place."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(args)
        except SystemExit as stop:
            status = 0 if stop.code is None else stop.code
    assert "Traceback" not in said.getvalue()
    return status


@settings(FAST, max_examples=30)
@given(
    st.sampled_from(["compare", "calibrate", "cascade", "inspect", "study", "fitt", ""]),
    st.lists(WORDS, max_size=5),
    YAML,
)
def test_any_command_line_is_told(tmp_path, monkeypatch, command, words, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "any.yaml").write_text(text, encoding="utf-8")
    assert outcome([command, *words]) in (0, 2)


@settings(FAST, max_examples=5)
@given(st.lists(WORDS.filter(lambda word: "--help" not in word), min_size=1, max_size=3))
def test_any_command_line_of_lightning_is_told(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "any.yaml").write_text("trainer:\n  max_epochs: 1\n", encoding="utf-8")
    assert outcome(["test", *words]) in (0, 2)
