"""What n losses prove about their mean: p-values for "the risk is above a limit", and a test of many in sequence.

The losses are n independent draws, each in [0, 1], with mean (risk) R; the hypothesis is R > limit, and a p-value is
below d with probability at most d where it holds. Source: Angelopoulos, Bates, Candès et al., "Learn then Test"
(arXiv 2110.01052), section 2; the bound is Proposition 1 there, after Bates et al. (arXiv 2101.02703). EXACT. All
is computed in float64. Shapes: (...) any number of experiments at once, G hypotheses in order.
"""

from __future__ import annotations

import math

import torch
from scipy.special import rel_entr
from torch import Tensor


def binomial_p_value(errors: Tensor, n: int, limit: float) -> Tensor:
    """P(Binomial(n, limit) <= errors) for the number of errors (...) among n losses: exact if they are 0 or 1."""
    from scipy.stats import binom  # half a second, which only guarantees need

    return torch.as_tensor(binom.cdf(errors.numpy(), n, limit), dtype=torch.float64)


def hoeffding_bentkus_p_value(total: Tensor, n: int, limit: float) -> Tensor:
    """The Hoeffding-Bentkus p-value, for any losses in [0, 1].

    min(exp(-n h(min(r, a), a)), e P(Binomial(n, a) <= ceil(n r))) with r the mean loss, a the limit and
    h(r, a) = r ln(r/a) + (1-r) ln((1-r)/(1-a)). `total` (...) is their sum; sums of halves and whole numbers are exact.
    """
    total = total.double()
    mean = (total / n).clamp(max=limit).numpy()
    divergence = torch.as_tensor(rel_entr(mean, limit) + rel_entr(1 - mean, 1 - limit))
    bentkus = math.e * binomial_p_value(total.ceil(), n, limit)
    return torch.minimum((-n * divergence).exp(), bentkus).clamp(max=1.0)


def fixed_sequence(p_values: Tensor, delta: float) -> Tensor:
    """How many of G hypotheses (..., G) are rejected, tested in order at level delta until the first is not, (...).

    The chance that a true one is among them is at most delta, provided their order was fixed beforehand.
    """
    return (p_values <= delta).long().cumprod(-1).sum(-1)


def smallest_binomial_split(limit: float, delta: float) -> int:
    """The fewest losses with which `binomial_p_value` can be at most delta: none is 1, and (1 - limit)^n <= delta."""
    n = max(1, math.floor(math.log(delta) / math.log1p(-limit)))
    while n * math.log1p(-limit) > math.log(delta):  # the quotient is rounded
        n += 1
    return n
