"""What a person types and jsonargparse does not take: a switch without `true`, several words of one list."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

import yaml

__all__ = ["spelt_out"]


def spelt_out(function: Callable[..., Any], args: Sequence[str]) -> list[str]:
    """The arguments of a command as jsonargparse wants them: `--list` as `--list true`, `--only a b` as one list.

    A list of texts that is given twice is one list. Words before the first option are the first parameter's, if that is
    a list; if it is a text, the first of them.

    Args:
        function: The command's; its parameters' annotations say which options are switches and which lists.
        args: What follows the command's name.
    """
    kinds = {f"--{p.name}": str(p.annotation) for p in inspect.signature(function).parameters.values()}
    found: list[str] = []
    rest, places = list(args), dict[str, int]()
    first = next(iter(kinds), "")
    if rest and not rest[0].startswith("-") and kinds[first].startswith(("list[", "str")):
        rest.insert(0, first)  # words before any option: `compare RUN RUN`, `inspect RUN --text ...`
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        kind = kinds.get(option, "")
        if equals and not kind.startswith("list[str]"):
            found.append(f"{option}={value}")
            continue
        found.append(option)
        if equals:  # one word of a list, and the only way to write one that begins with two dashes
            rest.insert(0, value)
        words = [value] if equals else list(takewhile(lambda word: not word.startswith("--"), rest))
        if kind in ("bool", "<class 'bool'>") and not words:
            found.append("true")
        elif kind.startswith("list[str]") and words and not _is_list(words):
            del rest[: len(words)]
            if option in places:  # given before: jsonargparse would keep the last one alone
                found.pop()
                place = places[option]
                found[place] = json.dumps(json.loads(found[place]) + words)
            else:
                found.append(json.dumps(words))
                places[option] = len(found) - 1
        elif (kind.startswith("list[") and words and not words[0].startswith("[")) or _one_or_several(kind, words):
            del rest[: len(words)]
            found.append(f"[{','.join(words)}]")
    return found


def _one_or_several(kind: str, words: Sequence[str]) -> bool:
    """Whether words are several values of an option that takes one value or a list of them."""
    return "| list[" in kind and len(words) > 1 and not words[0].startswith("[")


def _is_list(words: Sequence[str]) -> bool:
    """Whether words are one list as YAML writes it, and not texts of which the first begins with a bracket."""
    if len(words) != 1 or not words[0].startswith("["):
        return False
    try:
        return isinstance(yaml.safe_load(words[0]), list)
    except yaml.YAMLError:
        return False
