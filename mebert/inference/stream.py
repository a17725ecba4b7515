"""Texts through an engine: tokens, windows, batches, and results in the order of the input, in bounded memory.

Shapes: B batch, C classes, S tokens of the longest row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mebert.data.text_warnings import TextCounts, warn_of_kind
from mebert.data.tokenizers import encode_texts
from mebert.errors import UserError
from mebert.inference.batching import BatchPlan, plan_batches
from mebert.inference.engine import Engine, Finished

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Text = str | tuple[str, str]
"""A text, or a pair of texts."""

SURROGATE = re.compile("[\ud800-\udfff]")


class TextEncoder:
    """Texts or pairs to token ids, and token ids to batches; warns once of texts that the model cannot read.

    Args:
        tokenizer: The model's.
        max_length: Longest text in tokens; longer ones are cut.
        device: Of the batches.
        num_texts: Texts that the model was trained to read at a time, 1 or 2; None: not known.
        stride: Longer texts are read in windows that overlap by so many tokens; None: they are cut.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        device: torch.device,
        num_texts: int | None = None,
        stride: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.stride = stride
        self.max_length = max_length
        self.device = device
        self.fill = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": 0}
        self.num_texts = num_texts
        self._pairs: bool | None = None
        self._counts = TextCounts()

    def encode(self, texts: Sequence[Any]) -> dict[str, list[list[int]]]:
        """Token ids (and segment ids if the model has them) of some texts, unpadded.

        Raises:
            UserError: Something that is neither a text nor a pair, or both kinds in one input; the message says where.
        """
        for place, text in enumerate(texts):
            pair = isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, str) for part in text)
            if not pair and not isinstance(text, str):
                found = "None" if text is None else f"of the type {type(text).__name__}"
                raise UserError(
                    f"input {self._counts.rows + place + 1} is {found}; give a text or a pair of texts (a, b)"
                )
            if self._pairs is None:
                self._pairs = pair
                warn_of_kind(self.num_texts, 2 if pair else 1)
            elif self._pairs != pair:
                kind, other = ("a pair", "a text") if pair else ("a text", "a pair")
                where = self._counts.rows + place + 1
                raise UserError(f"input {where} is {kind}, those before it are {other} each; give one kind")
        columns = [list(column) for column in zip(*texts, strict=True)] if self._pairs else [list(texts)]
        try:
            encoded = encode_texts(self.tokenizer, columns, self.max_length, self.stride)
        except (TypeError, UnicodeEncodeError) as error:
            broken = next((place for place, text in enumerate(texts) if SURROGATE.search("".join(text))), None)
            if broken is None:
                raise
            where = self._counts.rows + broken + 1
            raise UserError(f"input {where} holds half a character (a lone surrogate); take it out") from error
        before = self._counts.rows
        self._counts.add(columns, encoded["input_ids"], self.tokenizer, lambda row: f"input {before + row + 1}")
        return {name: encoded[name] for name in self.fill if name in encoded}

    def collate(self, rows: dict[str, list[list[int]]], places: np.ndarray) -> dict[str, Tensor]:
        """Some of the rows as a batch, padded to the longest of them: (B, S), or (B, W, S) where one has windows."""
        chosen = [rows["input_ids"][place] for place in places]
        lengths = np.fromiter(map(len, chosen), np.int64, len(chosen))
        longest = int(lengths.max())
        windows: tuple[int, ...] = ()
        if self.stride is not None and longest > self.max_length:
            longest = -(-longest // self.max_length) * self.max_length  # all windows but a text's last are full
            windows = (longest // self.max_length, self.max_length)
        real = np.arange(longest) < lengths[:, None]
        batch = {"attention_mask": real.astype(np.int64)}
        for name, values in rows.items():
            padded = np.full(real.shape, self.fill[name], dtype=np.int64)
            padded[real] = np.concatenate([values[place] for place in places])
            batch[name] = padded
        return {
            name: torch.from_numpy(values.reshape(len(chosen), *(windows or (longest,)))).to(self.device)
            for name, values in batch.items()
        }


def classify_stream(
    engine: Engine, encoder: TextEncoder, texts: Iterable[Any], plan: BatchPlan, window: int
) -> Iterator[tuple[list[Any], int]]:
    """Logits (C) (of several labels a row (C, 2)) and 0-based exit of each text, in the order of the texts.

    Texts are read one window at a time, when results are asked for. Memory holds one window, the rows that wait in the
    engine, and results that are not yet in turn; so the engine must not hold rows back for long (`max_wait`).
    """

    def finished_by_window() -> Iterator[list[Finished]]:
        iterator, first = iter(texts), 0
        while part := list(islice(iterator, window)):
            rows = encoder.encode(part)
            lengths = [len(ids) for ids in rows["input_ids"]]
            yield [
                engine.feed(encoder.collate(rows, places), torch.from_numpy(places + first))
                for places in plan_batches(lengths, plan.tokens_per_batch, plan.max_batch)
            ]
            first += len(part)
        yield [engine.flush()]

    done: dict[int, tuple[list[Any], int]] = {}
    turn = 0
    for parts in finished_by_window():
        for part in parts:
            logits = engine.model.comparable(part.logits, part.exits)
            results = zip(logits.tolist(), part.exits.tolist(), strict=True)
            done.update(zip(part.rows.tolist(), results, strict=True))
        while turn in done:
            yield done.pop(turn)
            turn += 1
