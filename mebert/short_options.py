"""Short names of options that are typed often, rewritten before anything is parsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["SHORT_OPTIONS", "expand", "explain"]

SHORT_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "predict": {
        "--out": "--predictions.path",
        "--format": "--predictions.format",
        "--speedup": "--predictions.speedup",
        "--max_drop": "--predictions.max_drop",
        "--engine": "--predictions.engine",
    }
}


def expand(args: Sequence[str]) -> list[str]:
    """The arguments of a command with its short options written out, `--x value` and `--x=value` alike.

    Anything else stays as it is, so that the parser says what it does not know.

    Args:
        args: The command's name and what follows it.
    """
    known = SHORT_OPTIONS.get(args[0], {}) if args else {}
    found = []
    for argument in args:
        name, equals, value = argument.partition("=")
        found.append(known.get(name, name) + equals + value)
    return found


def explain(command: str) -> str:
    """A line for the command's help."""
    names = SHORT_OPTIONS.get(command, {})
    return "Short: " + ", ".join(f"{short} for {option}" for short, option in names.items()) if names else ""
