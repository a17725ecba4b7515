"""What a person types and jsonargparse does not take: a switch without `true`, several words of one list."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

__all__ = ["spelt_out"]


def spelt_out(function: Callable[..., Any], args: Sequence[str]) -> list[str]:
    """The arguments of a command as jsonargparse wants them: `--list` as `--list true`, `--only a b` as one list.

    Words before the first option are the first parameter's, if that is a list.

    Args:
        function: The command's; its parameters' annotations say which options are switches and which lists.
        args: What follows the command's name.
    """
    kinds = {f"--{p.name}": str(p.annotation) for p in inspect.signature(function).parameters.values()}
    found, rest = [], list(args)
    first = next(iter(kinds), "")
    if rest and not rest[0].startswith("-") and kinds[first].startswith("list["):
        rest.insert(0, first)  # words before any option: `compare RUN RUN`
    while rest:
        option = rest.pop(0)
        found.append(option)
        kind = kinds.get(option, "")
        words = list(takewhile(lambda word: not word.startswith("--"), rest))
        if kind in ("bool", "<class 'bool'>") and not words:
            found.append("true")
        elif kind.startswith("list[") and words and not words[0].startswith("["):
            del rest[: len(words)]
            found.append(json.dumps(words) if kind.startswith("list[str]") else f"[{','.join(words)}]")
    return found
