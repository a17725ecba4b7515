"""Any value in any place of a folder's JSON files: what reads them works, or says in one line what is wrong."""

import contextlib
import io
import json
import random
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mebert
from mebert.cli.main import main
from mebert.errors import UserError
from mebert.exit_predictor.tokens import TokenExitPredictor
from mebert.storage.predictor_spec import PredictorOrigin

RUN = "runs/tiny/version_0"
MODEL = f"{RUN}/model"
HUGE = "1" + 400 * "0"  # a whole number that is no float
DEEP = 100_000 * "[" + 100_000 * "]"

SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PLAIN = st.sampled_from(
    [None, True, -1, 0, 1, 7, 10**19, 0.5, -0.0, float("nan"), float("inf"), 1e300, "", "x", "0", "\ud800", HUGE, DEEP]
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "1", "x"]), inner),
    max_leaves=4,
)


def places(value, path=()):
    """The path of every value; of long lists and tables only the ends."""
    yield path
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        for key in [*keys[:20], *keys[20:][-2:]]:
            yield from places(value[key], (*path, key))


def text_of(content):
    """JSON, with numbers and depths that Python's own writer does not make."""
    text = json.dumps(content)
    for special in (HUGE, DEEP):
        text = text.replace(json.dumps(special), special)
    return text


@st.composite
def damaged(draw, content):
    """A copy with one value replaced, one key removed, or one added; as text."""
    content = deepcopy(content)
    path = draw(st.sampled_from(list(places(content))))
    value = draw(VALUES)
    if not path:
        return text_of(value)
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    how = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if how == "remove":
        del holder[path[-1]]
    elif how == "add" and isinstance(holder, dict):
        holder["an unknown key"] = value
    else:
        holder[path[-1]] = value
    return text_of(content)


@contextlib.contextmanager
def other_text(path, text):
    """A file with another content for a while."""
    before = path.read_bytes()
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        yield
    finally:
        path.write_bytes(before)


def use(folder):
    """All that a folder's values reach."""
    classifier = mebert.EarlyExitClassifier.from_pretrained(folder)
    name = getattr(classifier.policy, "name", "")
    texts = ["a dog", "", "a cat \U0001f642 sat"]
    answers = classifier(texts)
    answers += [a for s in classifier.operating_points.get(name, {}) for a in classifier(texts, speedup=s)]
    answers += [a for d in classifier.max_drops.get(name, {}) for a in classifier(texts, max_drop=d)]
    for predictor in classifier.predictors:
        with contextlib.suppress(UserError):  # none was fitted to this threshold
            answers += classifier(texts, engine="predicted", threshold=predictor.origin.threshold)
    for answer in answers:
        assert 1 <= answer.exit <= classifier.model.num_exits
        assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def folder(trained_run, tmp_path_factory):
    """A copy of the trained run as the working folder; its model folder has every file and key that there can be."""
    path = shutil.copytree(trained_run, tmp_path_factory.mktemp("damaged") / "run")
    model = path / MODEL
    spec = json.loads((model / "exits.json").read_text())
    name = "edr"
    found = {"threshold": 0.4, "loss": "mistakes", "epsilon": 0.1, "delta": 0.1, "samples": 41, "measured": 0.02}
    spec |= {"max_drops": {name: {"0.01": 0.25}}, "guarantees": {name: {"0.1": found}}}
    (model / "exits.json").write_text(json.dumps(spec))
    tokens, exits = torch.arange(40) % 20, torch.arange(8) % 3
    predictor = TokenExitPredictor(3, 80, 0.5).fit(tokens, torch.arange(0, 41, 5), exits)
    predictor.origin = PredictorOrigin(name, spec["policy"]["init_args"]["threshold"], 2.0, "train", 8)
    predictor.save(model)
    with contextlib.chdir(path):
        yield path


FILES = {
    **dict.fromkeys(("exits.json", "exit_predictor.json", "config.json"), 60),
    **dict.fromkeys(("tokenizer.json", "tokenizer_config.json"), 25),
}


QUICK = ("exits.json", "config.json")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FILES]
)
def test_the_classifier(name, folder):
    path = folder / MODEL / name
    content, told = json.loads(path.read_text()), []

    @settings(SETTINGS, max_examples=FILES[name])
    @given(damaged(content))
    def check(text):
        with other_text(path, text):
            try:
                use(RUN)
            except UserError as error:
                told.append(str(error))

    use(RUN)  # undamaged it works
    check()
    assert told
    for line in told:
        assert "\n" not in line
        assert MODEL in line or "exit predictor" in line
        line.encode()


@pytest.mark.parametrize(
    ("file", "command", "examples"),
    [
        ("evaluation.json", ["compare", RUN, RUN], 40),
        ("evaluation.json", ["compare", RUN, "--out", "page.html"], 6),
        ("model/exits.json", ["calibrate", MODEL, "--max_drop", "0.5"], 12),
        ("model/config.json", ["inspect", MODEL, "--text", "a dog \U0001f642"], 8),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else str(value),
)
def test_commands(file, command, examples, folder):
    path = folder / RUN / file
    content = json.loads(path.read_text())

    @settings(SETTINGS, max_examples=examples)
    @given(damaged(content))
    def check(text):
        errors = io.StringIO()
        spec = (folder / MODEL / "exits.json").read_bytes()
        with other_text(path, text), contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            status = main(command)
        (folder / MODEL / "exits.json").write_bytes(spec)  # calibrate may have written it
        told = [line for line in errors.getvalue().splitlines() if line.startswith("mebert: error: ")]
        assert (status, len(told)) in ((0, 0), (2, 1)), errors.getvalue()

    assert main(command) == 0
    check()


# ---- single values, by what is said of them --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        ("exits.json", {"exit_layers": [1.5, 3]}, "exits.json: exit_layers.0: .*valid integer.*, got 1.5"),
        ("exits.json", {"exit_layers": [1, 2, 9]}, "exits.json: exit_layers must be .* end with 3.*got .1, 2, 9."),
        ("exits.json", {"policy": "entropy"}, "exits.json: policy: Input should be an object, got 'entropy'"),
        ("exits.json", {"max_drops": {"edr": {"0.01": float("nan")}}}, "max_drops.edr.0.01: .*, got nan"),
        ("exits.json", {"max_drops": {"edr": {"nan": 0.5}}}, "max_drops.edr.nan: .*finite number, got 'nan'"),
        (
            "exits.json",
            {"operating_points": {"edr": {"2": HUGE}}},
            "operating_points.edr.2: it is too large .* got 10000",
        ),
        ("exits.json", {"guarantees": {"edr": {"0.1": {}}}}, "it lacks the key 'guarantees.edr.0.1.threshold'"),
        ("exits.json", {"head_dropout": 2}, "head_dropout: .*less than 1, got 2"),
        ("exits.json", {"label_names": ["a", "a", "b"]}, "label_names must be distinct, got a, a, b"),
        ("exits.json", {"label_names": "abc"}, "label_names: .*valid array, got 'abc'"),
        ("exits.json", {"num_labels": 2, "label_names": ["a", "b"]}, "exits.json does not fit exits.safetensors"),
        ("exits.json", {"members": ["."] * 3}, "members: it must hold names of folders beside the file, got"),
        (
            "exits.json",
            {"policy": {"class_path": "mebert.policies.Entropy", "init_args": {"threshold": "0.5"}}},
            "policy in exits.json: .*do not fit: threshold: .*number, got '0.5'",
        ),
        ("exits.json", {"more": DEEP}, "exits.json is not valid JSON: its lists are nested too deeply"),
        ("exit_predictor.json", {"predictors": [{"class_path": "x"}]}, "it lacks the key 'predictors.0.init_args'"),
        ("config.json", {"quantization_config": {"quant_method": "awq"}}, "config.json: quantization_config: .*awq"),
        ("config.json", {"num_hidden_layers": 10**19}, "config.json: num_hidden_layers: .*1000, got 1000000"),
        ("config.json", {"layer_norm_eps": float("nan")}, "config.json: layer_norm_eps: .*finite number, got nan"),
        ("config.json", {"hidden_act": "warp"}, "the files are not usable .KeyError: 'warp'"),
        ("config.json", {"pad_token_id": "0"}, "config.json has a wrong value .*pad_token_id"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "tokenizer_config.json: model_max_length .*, got 'x'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_value_is_named(file, changes, says, folder):
    path = folder / MODEL / file
    with (
        other_text(path, text_of(json.loads(path.read_text()) | changes)),
        pytest.raises(UserError, match=says) as told,
    ):
        mebert.EarlyExitClassifier.from_pretrained(RUN)
    assert MODEL in str(told.value)


def test_a_token_beyond_the_embedding(folder):
    path = folder / MODEL / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["beyond"] = 80
    with (
        other_text(path, json.dumps(content)),
        pytest.raises(UserError, match=r"the tokenizer has 81 tokens \(the last one: 'beyond'\), .*vocabulary has 80"),
    ):
        mebert.EarlyExitClassifier.from_pretrained(RUN)


def test_a_key_that_stands_there_twice(folder):
    path = folder / MODEL / "exits.json"
    twice = path.read_text().rstrip().removesuffix("}") + ', "label_names": ["c", "b", "a"]}'
    with other_text(path, twice), pytest.raises(UserError, match="the key 'label_names' is given twice"):
        mebert.EarlyExitClassifier.from_pretrained(RUN)


# ---- PyTorch's state is the user's -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_type_changes_no_answer(dtype, folder):
    texts = ["a dog", "kurt can dive", "all cats are animals"]

    def answers():
        classifier = mebert.EarlyExitClassifier.from_pretrained(RUN)
        engines = [classifier(texts, engine=engine, threshold=0.5) for engine in ("full", "shrink", "refill")]
        names = ("max_prob", "entropy", "margin", "patience", "edr")
        return engines, [classifier(texts, policy=name, threshold=0.6) for name in names]

    before = answers()
    torch.set_default_dtype(dtype)
    try:
        assert answers() == before
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


def test_opening_draws_no_random_numbers(folder):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    mebert.EarlyExitClassifier.from_pretrained(RUN)("a dog")
    mebert.MultiExitModel.from_pretrained(MODEL)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("batch_size", 10**19, r"batch_size must be in \[1, 2147483647\], got 1000"),
        ("batch_size", 7.5, "batch_size must be a whole number, got 7.5"),
        ("window", 10**19, "window must be in"),
        ("threshold", 10**400, "threshold must be a number, got 1000"),
        ("threshold", -1, r"threshold must be in \[0, 1.*\], got -1"),
    ],
)
def test_numbers_of_a_call(name, value, says, folder):
    classifier = mebert.EarlyExitClassifier.from_pretrained(RUN)
    with pytest.raises(UserError, match=says):
        classifier(["a dog"], **{name: value})
    assert classifier(["a dog"] * 9, batch_size=7.0, window=np.int64(8)) == classifier(["a dog"] * 9)
