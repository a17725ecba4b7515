"""The inputs: a task, own texts, or random tokens; and their batches.

Shapes: N samples, B batch, S tokens of the longest row in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from mebert.data.datamodule import TextDataModule
from mebert.data.file_rows import text_lines
from mebert.data.loaders import open_split
from mebert.data.tokenised import TokenisedSplit, collate, load_tokenizer
from mebert.errors import UserError
from mebert.inference import plan_batches
from mebert.models import model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUANTILES = (0.0, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0)

# Tokens at those quantiles, [CLS] and [SEP] included, counted with the tokenizer of all-MiniLM-L6-v2 (the vocabulary
# of bert-base-uncased) on the validation split (ag_news, imdb: test split), at most 3000 rows, nothing cut.
LENGTHS = {
    "sst2": (4, 10, 12, 17, 24.5, 32, 40, 44, 51, 55),
    "snli": (11, 17, 18, 22, 26, 32, 38, 42, 52, 89),
    "mnli": (6, 15, 18, 26, 36, 49, 62, 72, 103, 237),
    "mrpc": (26, 32, 37, 44, 53, 63, 70, 74, 81, 86),
    "ag_news": (8, 24, 28, 34, 41, 48, 56, 65, 113, 267),
    "imdb": (22, 91, 121, 161, 217, 352, 567, 754, 1170, 2875),
}

SHORTEST = 3  # a word between [CLS] and [SEP]


def draw_lengths(spec: str, samples: int, max_length: int, seed: int) -> np.ndarray:
    """Lengths in tokens (N,) int64 that follow a distribution as closely as N samples can, in random order.

    Args:
        spec: A key of `LENGTHS`; or "mean,std" for a log-normal distribution; or one number for equal lengths.
        samples: N.
        max_length: Longer ones are cut, as texts would be.
        seed: Determines the order.

    Raises:
        UserError: `spec` is none of these.
    """
    generator = np.random.default_rng(seed)
    ranks = (generator.permutation(samples) + 0.5) / samples  # every quantile once, not a random sample of them
    if spec in LENGTHS:
        values = np.interp(ranks, QUANTILES, LENGTHS[spec])
    else:
        try:
            mean, std = map(float, spec.split(",") if "," in spec else (spec, "0"))
        except ValueError:  # not numbers, or more than two
            mean = std = math.nan
        if not (1 <= mean < math.inf and 0 <= std < math.inf):
            raise UserError(
                f"lengths must be one of {', '.join(LENGTHS)}, or mean and standard deviation in tokens such as 40,20, "
                f"or one length such as 128; got {spec!r}"
            )
        spread = math.sqrt(math.log1p((std / mean) ** 2))
        values = mean * np.exp(spread * ndtri(ranks) - spread**2 / 2)
    return np.clip(np.rint(values), min(SHORTEST, max_length), max_length).astype(np.int64)


Batch = tuple[dict[str, Tensor], Tensor]

"""The model's inputs, each (B, S), and the rows' numbers (B,) int64 on the CPU."""

SMALLEST_ID = 10  # below are the special tokens of most vocabularies


def random_texts(lengths: str, samples: int, max_length: int, vocab_size: int, seed: int) -> TokenisedSplit:
    """Random tokens with the lengths of a distribution; see `draw_lengths`."""
    counts = draw_lengths(lengths, samples, max_length, seed)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    generator = np.random.default_rng(seed)
    tokens = generator.integers(min(SMALLEST_ID, vocab_size - 1), vocab_size, size=int(offsets[-1]))
    return TokenisedSplit(tokens, offsets, None, index=np.arange(samples))


def task_texts(task: str, split: str, tokenizer: str, samples: int, max_length: int, seed: int) -> TokenisedSplit:
    """Rows of a split of a named task, drawn by `seed`.

    Raises:
        UserError: No such task or split, or it cannot be opened.
    """
    data = TextDataModule(task, tokenizer, max_length, max_train_samples=samples, max_eval_samples=samples, seed=seed)
    return _without_labels(open_split(data, split))


def file_texts(
    path: str, tokenizer: str, samples: int, max_length: int, seed: int, text_column: str, pair_column: str | None
) -> TokenisedSplit:
    """Texts of a file (.txt: one a line; .csv, .tsv, .jsonl, .parquet: by column), drawn by `seed`.

    Raises:
        UserError: The file cannot be read, or has no such column.
    """
    if Path(path).suffix.lower() == ".txt":
        rows = _lines(path, load_tokenizer(tokenizer), max_length)
    else:
        data = TextDataModule(
            tokenizer=tokenizer,
            max_length=max_length,
            predict_file=path,
            streaming=False,  # rows are drawn from all
            text_column=text_column,
            text_pair_column=pair_column,
            labels=["unknown", "not known"],  # a data module of files must have labels; they are not used
        )
        data.setup("predict")
        rows = data.split("predict")
    if len(rows) > samples:
        rows = rows.select(np.random.default_rng(seed).permutation(len(rows))[:samples])
    return _without_labels(rows)


def make_batches(
    rows: TokenisedSplit,
    size: int,
    pad_token_id: int,
    device: torch.device,
    sort: bool,
    pad_to: int | None = None,
) -> list[Batch]:
    """All rows in batches on the device, by length (the longest first) or in their order, padded to `pad_to` tokens."""
    chosen: Sequence[np.ndarray]
    if sort:
        chosen = plan_batches(rows.lengths, max_batch=size)
    else:
        chosen = [np.arange(i, min(i + size, len(rows))) for i in range(0, len(rows), size)]
    batches = []
    for numbers in chosen:
        padded = collate([rows[int(n)] for n in numbers], pad_token_id, pad_to_multiple_of=pad_to)
        inputs = {name: value.to(device) for name, value in model_inputs(padded).items()}
        batches.append((inputs, torch.from_numpy(np.asarray(numbers, dtype=np.int64))))
    return batches


def _lines(path: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> TokenisedSplit:
    texts = [part.strip() for line in text_lines(path) for part in line.splitlines() if part.strip()]
    if not texts:
        raise UserError(f"{path} is empty; it must hold a text a line")
    encoded = tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=False)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in encoded["input_ids"]])])
    types = np.concatenate(encoded["token_type_ids"]) if "token_type_ids" in encoded else None
    return TokenisedSplit(np.concatenate(encoded["input_ids"]), offsets, types, index=np.arange(len(texts)))


def _without_labels(rows: TokenisedSplit) -> TokenisedSplit:
    """The same rows without labels, numbered by their places."""
    return TokenisedSplit(rows.tokens, rows.offsets, rows.token_types, index=np.arange(len(rows)))
