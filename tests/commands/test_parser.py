"""How the arguments of mebert's own commands may be typed."""

from __future__ import annotations

import pytest

from mebert.commands.parser import normalize_args


def command(
    names: list[str] | None = None,
    seeds: list[int] | None = None,
    list: bool = False,
    out: str | None = None,
    speedup: float | list[float] | None = None,
) -> None:
    """A command; its annotations are read as they are written."""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--list"], ["--list", "true"]),
        (["--list", "--out", "x"], ["--list", "true", "--out", "x"]),
        (["--list", "false"], ["--list", "false"]),
        (["--names", "a=1", "b c", "--out", "x"], ["--names", '["a=1", "b c"]', "--out", "x"]),
        (["--names", "[a, b]"], ["--names", "[a, b]"]),
        (["--seeds", "1", "2"], ["--seeds", "[1,2]"]),
        (["--names"], ["--names"]),
        (["--out", "x", "y"], ["--out", "x", "y"]),
        (["--names=a b"], ["--names", '["a b"]']),
        (["--names=--a", "--out=x", "--list"], ["--names", '["--a"]', "--out=x", "--list", "true"]),
        (["--names=[a, b]"], ["--names", "[a, b]"]),
        (["--seeds=[1,2]"], ["--seeds=[1,2]"]),
        (["--names", "a", "--out", "x", "--names", "b c"], ["--names", '["a", "b c"]', "--out", "x"]),
        (["--names", "[CLS] a"], ["--names", '["[CLS] a"]']),
        (["--names", "[a]", "b"], ["--names", '["[a]", "b"]']),
        (["--speedup", "2", "3", "--out", "x"], ["--speedup", "[2,3]", "--out", "x"]),
        (["--speedup", "2"], ["--speedup", "2"]),
        (["--speedup", "[2, 3]"], ["--speedup", "[2, 3]"]),
        (["--speedup=2", "--list"], ["--speedup=2", "--list", "true"]),
        ([], []),
    ],
)
def test_words_are_gathered_and_switches_thrown(typed, meant):
    assert normalize_args(command, typed) == meant
