"""Length distributions of well-known tasks, for inputs of random tokens. N samples."""

from __future__ import annotations

import math

import numpy as np

from mebert.errors import UserError

__all__ = ["LENGTHS", "draw_lengths"]

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
        UserError: `spec` is neither.
    """
    generator = np.random.default_rng(seed)
    ranks = (generator.permutation(samples) + 0.5) / samples  # every quantile once: no luck of the draw
    if spec in LENGTHS:
        values = np.interp(ranks, QUANTILES, LENGTHS[spec])
    else:
        mean, std = _mean_and_std(spec)
        spread = math.sqrt(math.log1p((std / mean) ** 2))
        values = mean * np.exp(spread * _normal_quantile(ranks) - spread**2 / 2)
    return np.clip(np.rint(values), min(SHORTEST, max_length), max_length).astype(np.int64)


def _mean_and_std(spec: str) -> tuple[float, float]:
    try:
        numbers = [float(part) for part in spec.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 <= n < math.inf for n in numbers) or numbers[0] < 1:
        raise UserError(
            f"lengths must be one of {', '.join(LENGTHS)}, or mean and standard deviation in tokens such as 40,20, or "
            f"one length such as 128; got {spec!r}"
        )
    return numbers[0], numbers[1] if len(numbers) == 2 else 0.0


def _normal_quantile(ranks: np.ndarray) -> np.ndarray:
    import torch

    values: np.ndarray = torch.special.ndtri(torch.from_numpy(ranks)).numpy()
    return values
