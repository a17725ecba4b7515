"""Static exits for a wanted speed-up, from tokenised rows alone: no layer runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mebert.exit_predictor.base import PredictorOrigin
from mebert.exit_predictor.coverage import Coverage, nearest_coverage
from mebert.exit_predictor.frequency import FrequencyExitPredictor

if TYPE_CHECKING:
    from mebert.data.tokenised import TokenisedSplit
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy

__all__ = ["fit_static", "tokens_of"]


def tokens_of(rows: TokenisedSplit) -> tuple[Tensor, Tensor]:
    """Token ids of all rows, one after the other, and where each row starts, (N+1,); int64."""
    offsets = torch.from_numpy(np.asarray(rows.offsets, dtype=np.int64))
    return torch.from_numpy(np.asarray(rows.tokens, dtype=np.int64)), offsets


def fit_static(
    model: MultiExitModel,
    rows: TokenisedSplit,
    policy: ExitPolicy,
    wanted: float,
    coverage: Coverage = "match",
    speedup: float | None = None,
    split: str = "",
    fresh: TokenisedSplit | None = None,
) -> FrequencyExitPredictor:
    """A `FrequencyExitPredictor` with a wanted speed-up, on the CPU.

    Args:
        model: For its exits and its vocabulary.
        rows: Rows whose tokens are counted; labels are not needed.
        policy: The policy that it replaces, at its threshold.
        wanted: Speed-up by layers that the coverage `match` meets.
        coverage: `match`, or as in `ExitPredictor`.
        speedup: The target for which the threshold was chosen, for the origin.
        split: Name of the split, for the origin.
        fresh: Rows on which `match` meets the speed-up; None: `rows`.
    """
    tokens, _ = tokens_of(rows)
    predictor = FrequencyExitPredictor(model.num_exits, int(model.adapter.config.vocab_size)).fit(tokens)
    predictor.origin = PredictorOrigin(policy.name, policy.threshold, speedup, split, len(rows))
    if coverage == "match":
        shares = predictor.distribution_of_rows(*tokens_of(rows if fresh is None else fresh))
        predictor.coverage = nearest_coverage(shares, model.exit_layers, wanted)
    else:
        predictor.coverage = coverage
    return predictor.eval()
