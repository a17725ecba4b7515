"""What `python -m mebert --help` says: the commands in the order in which one needs them."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping

from mebert.commands import COMMANDS

__all__ = ["LIGHTNING_COMMANDS", "overview"]

LIGHTNING_COMMANDS: Mapping[str, str] = {
    "fit": "Train, then test the best checkpoint and save it as a folder.",
    "validate": "Evaluate a checkpoint on the validation split.",
    "test": "Evaluate a checkpoint on the test split: exits, curve, operating points.",
    "predict": "Classify texts at a chosen speed.",
}

# In the order of the work; a command that is nowhere here comes last.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "train and use": ("fit", "validate", "test", "predict"),
    "choose a speed and look at it": ("calibrate", "bench", "compare", "inspect"),
    "many models": ("cascade", "study"),
}
LAST_GROUP = "more"

START = """\
start:
    python -m mebert fit --config configs/quickstart.yaml    (two minutes, no download)
    python -m mebert COMMAND --help                          (its options, with examples)
"""


def overview() -> str:
    """The help, as wide as the terminal but not wider than lines are easily read."""
    width = min(shutil.get_terminal_size().columns, 100)
    known = {**LIGHTNING_COMMANDS, **COMMANDS}
    placed = [name for names in GROUPS.values() for name in names]
    groups = {**GROUPS, LAST_GROUP: tuple(name for name in known if name not in placed)}
    options = {"-h, --help": "Show this help.", "--version": "Show the version."}
    longest = max(map(len, [*known, *options]))
    parts = [
        "usage: python -m mebert COMMAND [options]",
        textwrap.fill(
            "Early-exit BERT: train one encoder with an exit after every layer, choose a point on its accuracy-speed "
            "curve, and classify texts at that speed.",
            width,
        ),
    ]
    for title, names in groups.items():
        lines = [_line(name, known[name], longest, width) for name in names if name in known]
        if lines:
            parts.append("\n".join([f"{title}:", *lines]))
    parts.append("\n".join(["options:", *(_line(name, text, longest, width) for name, text in options.items())]))
    return "\n\n".join(parts) + "\n\n" + START.rstrip("\n")


def _line(name: str, text: str, longest: int, width: int) -> str:
    indent = " " * (4 + longest + 2)
    return textwrap.fill(text, width, initial_indent=f"    {name:<{longest}}  ", subsequent_indent=indent)
