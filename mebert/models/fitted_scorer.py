"""A learning-to-exit head for a model that was trained without: fitted to where its exits are wrong.

Shapes: E exits, N rows, C classes, F feature.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mebert.logistic import fit_logistic
from mebert.losses import wrongness

__all__ = ["fit_exit_scorer"]


@torch.no_grad()
def fit_exit_scorer(features: Tensor, logits: Tensor, labels: Tensor) -> nn.Linear:
    """One Linear(F -> 1) for all exits, as of BERxiT: sigmoid(w h + b) is the chance that an exit is wrong.

    In a regression it estimates how wrong, the tanh of the absolute error (`wrongness`).

    BERxiT trains it with the model, by squared errors (Xin et al., EACL 2021); that a logistic regression with an L2
    penalty of 1 is fitted to a trained model instead is ours.

    Args:
        features: What the exits pooled, (E, N, F).
        logits: (E, N, C).
        labels: (N,), int64 classes, or float targets where C = 1; rows with a negative label (or none, NaN, where
            C = 1) are left out.

    Raises:
        UserError: No labelled row.
    """
    known = ~labels.isnan() if logits.shape[-1] == 1 else labels >= 0
    wrong = wrongness(logits[:, known], labels[known])
    x = features[:, known].float()
    fitted = fit_logistic(x.flatten(0, 1).unsqueeze(0), wrong.flatten().unsqueeze(0))[0]
    scorer = nn.Linear(features.shape[-1], 1)
    scorer.weight.copy_(fitted[:-1].unsqueeze(0))
    scorer.bias.copy_(fitted[-1:])
    return scorer.to(features.device)
