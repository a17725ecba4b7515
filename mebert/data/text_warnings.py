"""One warning where texts are not what a model can read: empty ones, unknown tokens, pairs for a model of single texts.

Shapes: N rows, T tokens of all rows together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mebert.runtime.messages import rank_zero_warn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLOCK = 100_000  # rows whose tokens are looked at together
KINDS = {1: "single texts", 2: "pairs of texts"}


BLANK = "empty or blank", "used as they are"
UNKNOWN = "mostly unknown tokens", "is it the language, script or tokenizer that the model was trained with?"


def warn_of_share(found: np.ndarray, kind: tuple[str, str], place: Callable[[int], str]) -> None:
    """Warn where some of N rows were found, (N,) bool, to be of a kind: their share, and the `place` of the first."""
    if count := int(np.count_nonzero(found)):
        what, then = kind
        share = f"{count:,} of {len(found):,} texts ({100 * count / len(found):.3g} %)"
        rank_zero_warn(f"{share} are {what}, the first at {place(int(np.argmax(found)))}; {then}")


def mostly_unknown(tokens: np.ndarray, offsets: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Whether each row is mostly unknown, (N,): of its tokens, special ones aside, more than half are the unknown one.

    `tokens` (T,) are those of all rows, and `offsets` (N+1,) says where each row starts.
    """
    unknown_id, found = tokenizer.unk_token_id, np.zeros(len(offsets) - 1, dtype=bool)
    if unknown_id is None:
        return found
    special = [number for number in tokenizer.all_special_ids if number != unknown_id]
    for start in range(0, len(found), BLOCK):
        ends = offsets[start : start + BLOCK + 1]
        part = np.asarray(tokens[ends[0] : ends[-1]])
        surplus = 2 * (part == unknown_id).astype(np.int64) - ~np.isin(part, special)  # 1 unknown, -1 known, 0 special
        sums = np.concatenate([[0], np.cumsum(surplus)])
        found[start : start + BLOCK] = np.diff(sums[ends - ends[0]]) > 0
    return found


def warn_of_kind(trained: int | None, given: int) -> None:
    """Warn where a model that was trained on pairs is given single texts, or the reverse; None: not known."""
    if trained is not None and trained != given:
        rank_zero_warn(
            f"all inputs (100 %) are {KINDS[given]}, but the model was trained on {KINDS[trained]}; its answers may "
            f"mean nothing: give {'the second text of each pair too' if trained == 2 else 'one text each'}"
        )


@dataclass
class TextCounts:
    """Texts that arrive part by part; warns once of each kind, of the first part that has some."""

    rows: int = 0
    told: set[tuple[str, str]] = field(default_factory=set)

    def add(
        self,
        columns: Sequence[Sequence[str]],
        input_ids: Sequence[Sequence[int]],
        tokenizer: PreTrainedTokenizerBase,
        place: Callable[[int], str],
    ) -> None:
        """Take a part of N texts, given by column, with their token ids; `place` names a text of it, from 0."""
        self.rows += len(input_ids)
        if len(self.told) == 2 or not input_ids:
            return
        blank = np.asarray([not all(text.strip() for text in texts) for texts in zip(*columns, strict=True)])
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in input_ids])])
        tokens = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in input_ids])
        for found, kind in ((blank, BLANK), (mostly_unknown(tokens, offsets, tokenizer), UNKNOWN)):
            if kind not in self.told and found.any():
                self.told.add(kind)
                warn_of_share(found, kind, place)
