"""One warning where texts are not what a model can read: empty ones, unknown tokens, pairs for a model of single texts.

Shapes: N rows, T tokens of all rows together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLOCK = 100_000  # rows whose tokens are looked at together
KINDS = {1: "single texts", 2: "pairs of texts"}


def share(count: int, total: int) -> str:
    """`2 of 40 texts (5 %)`."""
    return f"{count:,} of {total:,} texts ({100 * count / max(total, 1):.3g} %)"


def mostly_unknown(tokens: np.ndarray, offsets: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many rows are mostly unknown: of their tokens (T,), special ones aside, more than half are the unknown one.

    `offsets` (N+1,) says where each row starts.
    """
    unknown_id = tokenizer.unk_token_id
    if unknown_id is None:
        return 0
    special = [number for number in tokenizer.all_special_ids if number != unknown_id]
    found = 0
    for start in range(0, len(offsets) - 1, BLOCK):
        ends = offsets[start : start + BLOCK + 1]
        part = np.asarray(tokens[ends[0] : ends[-1]])
        surplus = 2 * (part == unknown_id).astype(np.int64) - ~np.isin(part, special)  # 1 unknown, -1 known, 0 special
        sums = np.concatenate([[0], np.cumsum(surplus)])
        found += int(np.count_nonzero(np.diff(sums[ends - ends[0]]) > 0))
    return found


def warn_of_unknown(count: int, total: int, origin: str) -> None:
    """Warn where there are rows that `mostly_unknown` counts."""
    if count:
        rank_zero_warn(
            f"{origin}: {share(count, total)} are mostly unknown tokens, of which the model knows nothing: another "
            "language, script or tokenizer?"
        )


def warn_of_kind(trained: int | None, given: int) -> None:
    """Warn where a model that was trained on pairs is given single texts, or the reverse; None: not known."""
    if trained is not None and trained != given:
        rank_zero_warn(
            f"all inputs (100 %) are {KINDS[given]}, but the model was trained on {KINDS[trained]}; its answers may "
            f"mean nothing: give {'the second text of each pair too' if trained == 2 else 'one text each'}"
        )


@dataclass
class TextCounts:
    """What has been seen of texts that arrive part by part; warns once, of the first part with something to tell."""

    rows: int = 0
    warned: bool = False

    def add(
        self,
        columns: list[list[str]],
        input_ids: list[list[int]],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """Count a part of N texts, given by column, and their token ids."""
        self.rows += len(input_ids)
        if self.warned or not input_ids:
            return
        blank = sum(not all(text.strip() for text in texts) for texts in zip(*columns, strict=True))
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in input_ids])])
        unknown = mostly_unknown(np.concatenate([np.asarray(ids, np.int64) for ids in input_ids]), offsets, tokenizer)
        self.warned = bool(blank or unknown)
        what = f"texts {self.rows - len(input_ids) + 1:,} to {self.rows:,}" if self.rows > 1 else "the text"
        if blank:
            rank_zero_warn(f"{what}: {share(blank, len(input_ids))} are empty or blank; used as they are")
        warn_of_unknown(unknown, len(input_ids), what)
