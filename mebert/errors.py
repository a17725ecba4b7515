"""The one exception that means: the user gave something that cannot work."""

from __future__ import annotations

from mebert.plain_text import visible, without_userinfo

__all__ = ["UserError"]


class UserError(ValueError):
    """A mistake in what the user gave, told in one line: what, where, and what to do.

    The command line prints the text without a stack trace and exits with status 2; in Python it is an
    ordinary `ValueError`. What texts of files could do to a terminal, and passwords in addresses, are left out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_userinfo(visible(" ".join(message.split()))))
