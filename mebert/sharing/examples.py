"""The texts in a card's examples: none of a user's data, and only such as the model's tokenizer knows."""

from __future__ import annotations

import json
from typing import Any

KNOWN = (
    ("This is an example.", "This is another one."),
    ("anna likes dogs", "anna likes animals"),  # in the words of the built-in task
)


def example_texts(tokenizer: Any, num_texts: int | None) -> tuple[str, ...]:
    """A text, or the two of a pair; empty where the tokenizer knows no such words."""
    for texts in (pair[: num_texts or 1] for pair in KNOWN):
        found = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        if not any(tokenizer.unk_token_id in ids for ids in found):
            return texts
    return ()


def in_python(texts: tuple[str, ...], pair: bool) -> tuple[str, list[str]]:
    """The argument of a call, and the lines before it."""
    if texts:
        quoted = ", ".join(json.dumps(text) for text in texts)
        return (f"({quoted})" if pair else quoted), []
    if pair:
        return "pair", ['pair = input("First text: "), input("Second text: ")']
    return "text", ['text = input("Text: ")']


def in_json(texts: tuple[str, ...], pair: bool) -> str:
    """The body of a request."""
    given = texts or ("...", "...")
    return json.dumps({"pair": given[:2]} if pair else {"text": given[0]})
