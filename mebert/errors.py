"""The one exception for mistakes of the user, and how its text is made safe for a terminal."""

from __future__ import annotations

import math
import re

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")

# All but tab and line feed; the characters that change the direction of writing; and halves of surrogate pairs (JSON
# can hold them), which no file and no stream takes.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_control_chars(text: str) -> str:
    r"""A text without escape sequences; each other control character becomes U+FFFD.

    >>> escape_control_chars("\x1b[31mred\x1b[0m and a bell\x07")
    'red and a bell\ufffd'
    """
    return CONTROL.sub("\ufffd", ESCAPES.sub("", text))


def without_userinfo(text: str) -> str:
    """A text whose addresses name no user.

    >>> without_userinfo("https://me:secret@hub.example/api cannot be reached")
    'https://***@hub.example/api cannot be reached'
    """
    return re.sub(r"(?<=://)[^\s/@]+(?:@[^\s/@]+)*@", "***@", text)


class UserError(ValueError):
    """A mistake in what the user gave, in one line: what, where, and what to do.

    The command line prints the text without a stack trace and exits with status 2; in Python it is an
    ordinary `ValueError`. Control characters and passwords in addresses are removed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_userinfo(escape_control_chars(" ".join(message.split()))))


def error_chain(error: BaseException | None) -> list[BaseException]:
    """An error and what it was raised from, the outermost first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def brief(value: object) -> str:
    """A value as a message shows it: at most 80 characters of its `repr`.

    >>> brief(10**400)
    '10000000000000000000000000000000000000000000000000000000000000000000000000000...'
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python prints, a list within itself
        return f"a value of {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_range(
    name: str,
    value: float | None,
    low: float,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> None:
    """Raise a UserError for a setting that is not in [low, high], which `low_open` and `high_open` leave open.

    None is not checked. An infinite `high` stands for no limit; an infinite value or NaN is refused all the same.
    """
    if value is None:
        return
    if math.isfinite(high):
        wanted = f"in {'(' if low_open else '['}{low:g}, {high:.10g}{')' if high_open else ']'}"
    else:
        wanted = f"{'above' if low_open else 'at least'} {low:g}{' and finite' if value == math.inf else ''}"
    try:
        fits = (low < value if low_open else low <= value) and (value < high if high_open else value <= high)
        if fits and math.isfinite(value):
            return
    except TypeError:  # not a number: arguments from Python and from files have no types that anyone has checked
        wanted = f"a number {wanted}"
    except OverflowError:  # an integer that is no float
        wanted += " and finite"
    raise UserError(f"{name} must be {wanted}, got {value if isinstance(value, float) else brief(value)}")
