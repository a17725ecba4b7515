"""Commands of mebert's own, beside Lightning's: one file and one typed function each.

To add one: write `mebert/commands/<name>.py` with a function `<name>` whose arguments have types and whose docstring
explains them (Google style), and add its line to `COMMANDS`. The function is imported only when its command is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

__all__ = ["COMMANDS", "run_command"]

COMMANDS = {
    "bench": "Measure speed: baselines, engines and policies, in turn; say whether early exit is worth it here.",
    "calibrate": "Choose thresholds for a speed, a budget or a most allowed loss, with a guarantee if asked; store them.",
}


def run_command(name: str, args: Sequence[str]) -> None:
    """Parse the arguments of one command by its function's signature, and run it.

    Args:
        name: A key of `COMMANDS`.
        args: What follows the command's name on the command line.

    Raises:
        UserError: An argument is wrong.
    """
    from jsonargparse import auto_cli

    from mebert.parser import CommandParser

    function = getattr(import_module(f"mebert.commands.{name}"), name)
    auto_cli(
        function,
        args=list(args),
        as_positional=False,
        parser_class=CommandParser,
        prog=f"python -m mebert {name}",
        # An option cut short is a typing error, not an abbreviation.
        allow_abbrev=False,
    )
