"""Commands of mebert's own, beside Lightning's: one file and one typed function each.

To add one: write `mebert/commands/<name>.py` with a function `<name>` whose arguments have types and whose docstring
explains them (Google style), and add its line to `COMMANDS`. It returns nothing, or an exit status. The function is
imported only when its command is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

__all__ = ["COMMANDS", "run_command"]

COMMANDS = {
    "bench": "Measure speed: baselines, engines and policies, in turn; say whether early exit is worth it here.",
    "calibrate": "Choose thresholds for a speed, a budget or a most allowed loss, guaranteed if asked; store them.",
    "compare": "Compare tested runs of one task at equal speed, with paired tests on the same rows.",
    "cascade": "Put trained models behind one another: small ones first, the large one where they are not sure.",
    "study": "Train recipes x tasks x seeds from one YAML, resumably, and compare them in one report.",
}


def run_command(name: str, args: Sequence[str]) -> int:
    """Parse the arguments of one command by its function's signature, and run it.

    Args:
        name: A key of `COMMANDS`.
        args: What follows the command's name on the command line.

    Returns:
        The exit status: what the function returns, 0 for nothing.

    Raises:
        UserError: An argument is wrong.
    """
    from jsonargparse import auto_cli

    from mebert.commands.words import spelt_out
    from mebert.parser import CommandParser

    function = getattr(import_module(f"mebert.commands.{name}"), name)
    status = auto_cli(
        function,
        args=spelt_out(function, args),
        as_positional=False,
        parser_class=CommandParser,
        prog=f"python -m mebert {name}",
        # An option cut short is a typing error, not an abbreviation.
        allow_abbrev=False,
    )
    return int(status or 0)
