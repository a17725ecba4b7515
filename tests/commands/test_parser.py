"""How the arguments of mebert's own commands may be typed."""

from __future__ import annotations

from typing import Literal

import pytest
from torch import nn

from mebert.commands.parser import UserErrorParser, normalize_args
from mebert.errors import UserError


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


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--whole", "x"], "whole: expected a whole number, got x"),
        (["--number", "x"], "number: expected a number, got x"),
        (["--switch", "x"], "switch: expected true or false, got x"),
        (["--names", "[1]"], "expected a string"),
        (["--choice", "c"], "choice: expected one of 'a', 'b', got c"),
        (["--several", "x"], "several: expected a number or a list of them, got x"),
        (["--layer", "Linearr"], "layer: no class Linearr (give its import path, or a name of mebert), got Linearr"),
        (["--layer", "os.system"], "os.system is not allowed here; name a class of mebert's or of your own"),
        (
            ["--layer", "nowhere.A"],
            "no class nowhere.A: there is no package nowhere; check the spelling, or install it",
        ),
        (["--layer", "torch.nn.A"], "no class torch.nn.A: torch.nn has no A; check the spelling"),
        (["--layer", "torch.Tensor"], "not the name of a Module"),
        (["--layer", "torch.nn.Dropout", "--layer.q", "1"], "'q' is not accepted"),
        (["--wole", "1"], "unrecognized arguments: --wole 1; did you mean --whole?"),
        (["--config", "none.yaml"], "none.yaml'; check the path (it is relative to "),
    ],
)
def test_errors_of_jsonargparse_in_plain_words(typed, message):
    """The real library, for each row of its texts that the parser rewords."""
    parser = UserErrorParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--whole", type=int | None)
    parser.add_argument("--number", type=float)
    parser.add_argument("--switch", type=bool)
    parser.add_argument("--names", type=list[str])
    parser.add_argument("--choice", type=Literal["a", "b"] | None)
    parser.add_argument("--several", type=float | list[float] | None)
    parser.add_subclass_arguments(nn.Module, "layer", required=False)
    with pytest.raises(UserError) as caught:
        parser.parse_args(typed)
    assert message in str(caught.value)
