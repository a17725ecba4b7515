"""The one exception that means: the user gave something that cannot work."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(ValueError):
    """A mistake in what the user gave, told in one line: what, where, and what to do.

    The command line prints the text without a stack trace and exits with status 2; in Python it is an
    ordinary `ValueError`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
