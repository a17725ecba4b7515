"""Logistic regression, one model an exit, all fitted at once (E exits, N samples, K features).

Ours and not scikit-learn's, which is no dependency, takes no targets between 0 and 1, and gives other last digits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mebert.errors import UserError
from mebert.losses import exit_errors
from mebert.metrics.task import labelled_rows


@torch.no_grad()
def fit_exit_scorer(features: Tensor, logits: Tensor, labels: Tensor) -> nn.Linear:
    """One Linear(F -> 1) for all exits, as of BERxiT: sigmoid(w h + b) is the chance that an exit is wrong.

    In a regression it estimates how wrong, the tanh of the absolute error (`exit_errors`). BERxiT trains it with the
    model, by squared errors (Xin et al., EACL 2021); that a logistic regression with an L2 penalty of 1 is fitted to a
    trained model instead is ours.

    Args:
        features: What the exits pooled, (E, N, F).
        logits: (E, N, C), or of several labels a row (E, N, C, 2).
        labels: (N,) or (N, C), int64 classes, or float targets where C = 1; rows with a negative label, or NaN, are
            left out.
    """
    known = ~labels.isnan() if logits.shape[-1] == 1 else labelled_rows(labels, logits.shape[-1])
    wrong = exit_errors(logits[:, known], labels[known])
    x = features[:, known].float()
    fitted = fit_logistic(x.flatten(0, 1).unsqueeze(0), wrong.flatten().unsqueeze(0))[0]
    scorer = nn.Linear(features.shape[-1], 1)
    scorer.weight.copy_(fitted[:-1].unsqueeze(0))
    scorer.bias.copy_(fitted[-1:])
    return scorer.to(features.device)


def fit_logistic(features: Tensor, targets: Tensor, penalty: float = 1.0) -> Tensor:
    """The weights and the bias of each exit's model of P(target = 1), (E, K + 1), the bias last; by L-BFGS.

    Minimises the sum over samples of the cross-entropy plus penalty / 2 times the squared weights, the bias left free:
    scikit-learn's LogisticRegression with C = 1 / penalty. The sum is convex, so that the minimum is the only one.

    Features are (E, N, K), of about unit size, targets (E, N), 0 or 1, or shares in between.
    """
    if not features.shape[1]:
        raise UserError("a logistic model is fitted to labelled rows, and there are none")
    with torch.inference_mode(False), torch.enable_grad():
        # Clones: what was recorded in inference mode may not take part in a gradient.
        x, y = (given.detach().clone().double().cpu() for given in (features, targets))
        weights = torch.zeros(len(x), x.shape[-1] + 1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights], max_iter=300, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            z = torch.einsum("enk,ek->en", x, weights[:, :-1]) + weights[:, -1:]
            entropy = F.binary_cross_entropy_with_logits(z, y, reduction="sum")
            loss = (entropy + penalty / 2 * weights[:, :-1].square().sum()) / x.shape[1]
            loss.backward()
            return loss

        optimizer.step(closure)
        return weights.detach().float()
