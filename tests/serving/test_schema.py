"""Requests: what is read, and what is refused, with the field named and in little time."""

import json
import pickle
import time

import pytest

from mebert.serving.schema import (
    ExpectedMetric,
    Limits,
    PredictRequest,
    Refused,
    Speed,
    example_request,
    parse_request,
)

LIMITS = Limits(request_bytes=10_000_000, texts=3, text_chars=10)


def request(**values) -> PredictRequest:
    return parse_request(json.dumps(values).encode(), LIMITS)


def test_a_text_a_pair_and_a_list():
    assert request(text="a").inputs == ["a"]
    assert request(pair=["a", "b"], text=None).inputs == [("a", "b")]
    assert request(texts=["a", ["b", "c"]], speedup=2).inputs == ["a", ("b", "c")]
    assert request(text="a", threshold=[0, 0.5]).speed == Speed(threshold=(0.0, 0.5))
    assert request(text="a", threshold=-0.0).speed.name == "threshold"
    assert str(request(text="a", threshold=[-0.0, 0.5]).speed.threshold) == "(0.0, 0.5)"
    assert str(request(text="a", max_drop=-0.0).speed.max_drop) == "0.0"
    assert [Speed(speedup=2.0).name, Speed(max_drop=0.01).name, Speed().name] == [
        "speedup 2",
        "max_drop 0.01",
        "default",
    ]
    assert Speed(threshold=0.1).name == Speed(threshold=0.2).name  # so that clients cannot make metrics grow


DEEP = b"[" * 100_000
REFUSED = {
    b"": (422, None),
    b'{"text":': (422, None),
    b"null": (422, None),
    b"[]": (422, None),
    b"\xef\xbb\xbf{}": (422, None),
    b'{"text": "\xff"}': (422, None),
    b'{"text": "\\ud800"}': (422, None),
    DEEP: (422, None),
    b'{"text": ' + DEEP: (422, None),
    b'{"text": "a", "speedup": ' + b"1" * 6000 + b"}": (422, None),
    b"{}": (422, "text"),
    b'{"text": 5}': (422, "text"),
    b'{"text": {"a": 1}}': (422, "text"),
    b'{"text": "a", "texts": ["b"]}': (422, "texts"),
    b'{"pair": ["a"]}': (422, "pair"),
    b'{"text": "a", "text": "b"}': (422, "text"),
    b'{"text": "a", "speedup": ' + b"9" * 4000 + b', "text": "b"}': (422, "text"),
    b'{"pair": "ab"}': (422, "pair"),
    b'{"texts": []}': (422, "texts"),
    b'{"texts": ["a", 5]}': (422, "texts.1"),
    b'{"texts": [["a", "b", "c"]]}': (422, "texts.0"),
    b'{"text": "a", "Speedup": 2}': (422, "Speedup"),
    b'{"text": "a", "speedup": "2"}': (422, "speedup"),
    b'{"text": "a", "speedup": true}': (422, "speedup"),
    b'{"text": "a", "speedup": 0.5}': (422, "speedup"),
    b'{"text": "a", "speedup": NaN}': (422, "speedup"),
    b'{"text": "a", "max_drop": 1e999}': (422, "max_drop"),
    b'{"text": "a", "max_drop": 1}': (422, "max_drop"),
    b'{"text": "a", "threshold": [0.1, 2]}': (422, "threshold"),
    b'{"text": "a", "threshold": []}': (422, "threshold"),
    b'{"text": "a", "speedup": 2, "max_drop": 0.1}': (422, "max_drop"),
    b'{"text": "aaaaaaaaaaa"}': (413, "text"),
    b'{"texts": ["a", ["aaaaaa", "aaaaa"]]}': (413, "texts.1"),
    b'{"texts": ["a", "a", "a", "a"]}': (413, "texts"),
    b'{"texts": [' + b"1," * 400_000 + b"1]}": (413, "texts"),
    b'{"threshold": [' + b'"a",' * 200_000 + b'1], "text": "x"}': (422, "threshold"),
    b"{" + b",".join(b'"k%d":1' % i for i in range(50_000)) + b"}": (422, "k0"),
    b" " * 10_000_001: (413, None),
}


@pytest.mark.parametrize(("body", "wanted"), REFUSED.items(), ids=[str(body[:30]) for body in REFUSED])
def test_a_bad_request_is_refused_with_its_field(body, wanted):
    begin = time.process_time()
    with pytest.raises(Refused) as caught:
        parse_request(body, LIMITS)
    assert time.process_time() - begin < 1
    error = pickle.loads(pickle.dumps(caught.value))  # as between processes
    assert (error.status, error.field) == wanted
    assert error.content == {"detail": error.detail, "field": error.field}
    assert len(error.detail) < 300
    json.dumps(error.content, ensure_ascii=False, allow_nan=False).encode()  # can be sent


def test_numbers_are_shown_with_five_digits():
    found = ExpectedMetric(metric="acc", value=2 / 3, drop=0.0050000000000000044, speedup=1.5001500150015001, samples=9)
    assert (found.value, found.drop, found.speedup) == (0.66667, 0.005, 1.5002)
    assert ExpectedMetric(metric="acc", value=None, drop=-0.044444444, speedup=1, samples=9).drop == -0.044444


@pytest.mark.parametrize("texts", [1, 2, None])
def test_examples_are_requests_of_the_models_kind(texts):
    for many in (False, True):
        inputs = PredictRequest(**example_request(texts, many)).inputs
        assert len(inputs) == 1 + many
        assert all(isinstance(one, tuple) == (texts == 2) for one in inputs)
