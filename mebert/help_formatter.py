"""How the help of a command is laid out."""

from __future__ import annotations

import re
from argparse import Action

from jsonargparse import DefaultHelpFormatter

__all__ = ["HelpFormatter", "plain_type", "shorten"]

PRINT_CONFIG = "Print the configuration that all arguments make, and exit."


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, with examples as they are written and each option by its own name alone."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs are filled; one with indented lines is a list of commands, and stays as it is."""
        parts = re.split(r"\n\s*\n", text.strip("\n"))
        kept = [
            part if "\n  " in part else super(HelpFormatter, self)._fill_text(part, width, indent) for part in parts
        ]
        return "\n\n".join(kept)

    def add_argument(self, action: Action) -> None:
        """As argparse, without those that are marked as hidden."""
        if not getattr(action, "hidden", False):
            super().add_argument(action)

    def _get_help_string(self, action: Action) -> str:
        if getattr(action, "plain_help", False):  # words that say what may be given: no list of all types
            return f"{action.help} (default: %(default)s)"
        return super()._get_help_string(action)

    def _get_type_str(self, action: Action) -> str | None:
        found = super()._get_type_str(action)
        return None if found is None else plain_type(found)

    def _format_action_invocation(self, action: Action) -> str:
        names = action.option_strings
        try:
            # `--runs+` adds to a list of a configuration; words after `--runs` are what people type.
            action.option_strings = [name for name in names if not name.endswith("+")]
            return super()._format_action_invocation(action)
        finally:
            action.option_strings = names


def plain_type(written: str) -> str:
    """A type as one says what may be given.

    >>> plain_type("Optional[Literal['a', 'b']]"), plain_type("Union[float, list[float], null]")
    ('a | b | null', 'float | list[float] | null')

    Args:
        written: As jsonargparse writes it.
    """
    written = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), written)
    written = re.sub(r"^Optional\[(.*)\]$", r"\1 | null", written)
    union = re.fullmatch(r"Union\[(.*)\]", written)
    return written if union is None else re.sub(r", (?![^\[]*\])", " | ", union[1])


def shorten(actions: list[Action]) -> None:
    """Say in one line what jsonargparse says in six.

    Args:
        actions: Of a parser.
    """
    for action in actions:
        if "--print_config" in action.option_strings:
            action.help = PRINT_CONFIG
