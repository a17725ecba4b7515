"""Static exits for a wanted speed-up: from tokenised rows alone, without a run of the model."""

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
    """A `FrequencyExitPredictor` that is as fast as is wanted, on the CPU; no layer runs.

    Args:
        model: For its exits and its vocabulary.
        rows: Whose tokens are counted; labels are not needed.
        policy: In whose place these exits are taken, at the threshold in question.
        wanted: Speed-up by layers that `match` meets.
        coverage: `match`, or as in `ExitPredictor`.
        speedup: The target for which the threshold was chosen, if it was; noted with the predictor.
        split: Name of the split; noted, too.
        fresh: Rows on which it shall be as fast as that; None: those whose tokens are counted.
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
