"""Simulated exits of a model with random weights, drawn so that a speed-up is met.

Shapes: N samples, E exits, B batch, H hidden, S tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mebert.data.scoring import map_rows
from mebert.data.tokenised import TokenisedSplit, collate
from mebert.errors import UserError
from mebert.exit_predictor import ExitPredictor
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.policies import ExitPolicy
from mebert.storage.thresholds import Threshold

BISECTIONS = 60


def flops_speedup(exits: Tensor, flops: Tensor, plain: Tensor) -> float:
    """Cost of the plain model (N,) over the cost of the exits taken (N,), `flops` (E, N) being the cost of each."""
    return float(plain.sum() / flops.gather(0, exits.unsqueeze(0)).sum())


def draw_exits(flops: Tensor, plain: Tensor, speedup: float, seed: int) -> Tensor:
    """A random exit for every sample, (N,) int64, so that all together meet a speed-up by FLOPs.

    At every exit the same share of the remaining samples leaves; the rest reaches the last one. Trained models show
    roughly that shape: many samples at the first exits, fewer and fewer, and a peak at the end. The draw does not
    depend on a sample's length. `flops` (E, N) and `plain` (N,) as in `flops_speedup`; a UserError if out of reach.
    """
    exits, samples = flops.shape
    # The second number makes the draw independent of that of the lengths, which has the same seed.
    ranks = (np.random.default_rng([seed, 1]).permutation(samples) + 0.5) / samples
    uniform = torch.from_numpy(ranks)  # every quantile once: the shares are met as closely as N samples can
    first = torch.zeros(samples, dtype=torch.int64)
    if speedup == 1.0:
        return first + exits - 1  # the full depth
    fastest, slowest = flops_speedup(first, flops, plain), flops_speedup(first + exits - 1, flops, plain)
    if not slowest <= speedup <= fastest:
        raise UserError(
            f"speedups: {speedup:g} is out of reach here: {exits} exits give {slowest:.2f}x to {fastest:.2f}x by FLOPs"
        )

    def leaving(share: float) -> Tensor:
        # Leaving at exit e or before has the probability 1 - (1 - share)^(e+1).
        if share >= 1.0:
            return first
        steps = torch.log1p(-uniform) / float(np.log1p(-share))
        return steps.floor().clamp(0, exits - 1).long()

    low, high = 0.0, 1.0  # share of the remaining samples that leave at each exit; the speed-up rises with it
    for _ in range(BISECTIONS):
        share = (low + high) / 2
        if flops_speedup(leaving(share), flops, plain) < speedup:
            low = share
        else:
            high = share
    return leaving(high)


def features_of(model: MultiExitModel, rows: TokenisedSplit, batch_size: int) -> Tensor:
    """The pooled features of every sample at the first exit, (N, H) float32 on the model's device."""

    def first_features(batch: Mapping[str, Tensor]) -> Tensor:
        return model.step(model.start(**model_inputs(batch)), 0)[2]

    device = next(model.parameters()).device
    pad = int(getattr(model.adapter.config, "pad_token_id", 0) or 0)
    return map_rows(rows, partial(collate, pad_token_id=pad), first_features, batch_size, device).to(device)


@dataclass
class SimulatedExits(ExitPolicy):
    """Lets every sample leave at an exit drawn for it, and still computes a real policy's scores at every exit.

    An engine gives a policy no row numbers. So a sample is identified by its features at the first exit, as the nearest
    of the recorded ones; from there its exit is kept in the policy's state. Measured times therefore include one small
    matrix product per sample.
    """

    def of(self, indicator: ExitPolicy, exits: Tensor, features: Tensor) -> Self:
        """Set the indicator (its scores are ignored), exits (N,) and features (N, H) of `features_of`; returns self."""
        self.indicator = indicator
        self._exits = exits.to(features.device)
        # The nearest point has the largest x . t - |t|^2 / 2: one product instead of all distances. Centred, because
        # features that are close to each other would differ in their last digits only.
        centre = features.mean(0)
        points = features - centre
        self._points = points.T.contiguous()
        self._offsets = -(points.square().sum(1) / 2) - centre @ self._points
        return self

    def bind(self, model: MultiExitModel) -> Self:
        self.indicator = self.indicator.bind(model)
        return self

    def with_threshold(self, threshold: Threshold) -> Self:
        return self

    def start(self, attention_mask: Tensor) -> Any:
        return None, self.indicator.start(attention_mask)

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        exits, inner = (None, None) if state is None else state
        if exits is None:
            exits = self._exits[torch.addmm(self._offsets, features.float(), self._points).argmax(1)]
        _, inner = self.indicator.decide(exit_index, logits, features, inner)
        return exits <= exit_index, (exits, inner)

    def flops(self) -> int:
        return self.indicator.flops()


class KnownExits(ExitPredictor):
    """An exit predictor that is always right: it looks up each sample's exit (N,) by a hash of its token ids."""

    def __init__(self, rows: Sequence[np.ndarray], exits: Tensor, device: torch.device) -> None:
        super().__init__(int(exits.max()) + 1)
        longest = max(len(row) for row in rows)
        weights = torch.randint(-(2**62), 2**62, (longest,), generator=torch.Generator().manual_seed(0))
        keys = torch.stack([(torch.from_numpy(row.astype(np.int64)) * weights[: len(row)]).sum() for row in rows])
        order = keys.argsort()
        self._weights = weights.to(device)
        self._keys = keys[order].to(device)
        self._exits = exits.cpu()[order].to(device)

    def predict(self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None) -> Tensor:
        known = min(input_ids.shape[1], len(self._weights))  # beyond the longest row there is only padding
        keys = ((input_ids * attention_mask)[:, :known] * self._weights[:known]).sum(1)
        places = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
        return self._exits[places]
