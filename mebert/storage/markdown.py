"""Markdown: tables, and texts of users in it as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mebert.errors import escape_control_chars

MARKUP = re.compile(
    r"([\\`*~$&\[\]<>|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
    r"|(?<!\w)@(?=\w)|:(?=//|[\w+-]+:)|(?<=\bwww)\.)"  # names, addresses, pictures
)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(markdown_table(["exit", "acc"], [["1", "0.9"]]))
    | exit | acc |
    | --- | --- |
    | 1 | 0.9 |
    """
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *rows])


def plain_markdown(text: str) -> str:
    r"""A text in one line, without what Markdown, HTML or a page that links names and addresses reads as markup.

    >>> plain_markdown("a*b @me\n# https://x.org :smile: $x$ 10:30")
    'a\\*b \\@me # https\\://x.org \\:smile: \\$x\\$ 10:30'
    """
    text = re.sub(r"\s*[\r\n\v\f\x85\u2028\u2029]\s*", " ", text)
    return MARKUP.sub(r"\\\1", escape_control_chars(text))
