"""What n losses prove about their mean: p-values for "the risk is above a limit", and tests of many such hypotheses.

The losses are n independent draws, each in [0, 1], with mean (risk) R; the hypothesis is R > limit, and a p-value is
below d with probability at most d where it holds. Source: Angelopoulos, Bates, Candès et al., "Learn then Test"
(arXiv 2110.01052), section 2; Hoeffding-Bentkus is Proposition 1 there, after Bates et al. (arXiv 2101.02703), from
whose released code (`aangelopoulos/rcps`, core/bounds.py) the betting p-value is. EXACT. All is computed in float64.
Shapes: (...) any number of experiments at once, G hypotheses in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
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
    from scipy.special import rel_entr  # as above

    total = total.double()
    mean = (total / n).clamp(max=limit).numpy()
    divergence = torch.as_tensor(rel_entr(mean, limit) + rel_entr(1 - mean, 1 - limit))
    bentkus = math.e * binomial_p_value(total.ceil(), n, limit)
    return torch.minimum((-n * divergence).exp(), bentkus).clamp(max=1.0)


def betting_p_value(losses: Tensor, limit: float, delta: float) -> Tensor:
    """The p-value of Waudby-Smith and Ramdas for losses in [0, 1] (..., n) in the order of their drawing, (...).

    A gambler bets on losses below the limit, a share nu_j of the wealth that only earlier losses decide; where the risk
    is above it the wealth K_i = prod_{j <= i} (1 - nu_j (L_j - limit)) reaches 1 / p with probability at most p at any
    time (Ville): p = 1 / max_i K_i. nu_j = min(1, sqrt(2 ln(1 / delta) / (n s_{j-1}))) with the running variance
    s_j = (1/4 + sum_{i <= j} (L_i - m_i)^2) / (j + 1) and mean m_j = (1/2 + sum_{i <= j} L_i) / (j + 1). The fewer
    losses differ from each other, the smaller it is: far below Hoeffding-Bentkus for losses that are nearly all 1/2.
    """
    x = losses.double()
    count = torch.arange(2, x.shape[-1] + 2, dtype=torch.float64)
    mean = (0.5 + x.cumsum(-1)) / count
    variance = (0.25 + (x - mean).square().cumsum(-1)) / count
    before = torch.cat([torch.full_like(x[..., :1], 0.25), variance[..., :-1]], dim=-1)
    share = (2 * math.log(1 / delta) / (x.shape[-1] * before)).sqrt().clamp(max=1.0)
    wealth = torch.log1p(-share * (x - limit)).cumsum(-1)  # its logarithm
    return (-wealth.amax(-1)).exp().clamp(max=1.0)


def holm(p_values: Tensor, delta: float) -> Tensor:
    """Which of G hypotheses (G,) are rejected by Holm's step-down procedure, (G,) bool; they need no order.

    The k-th smallest p-value is compared with delta / (G - k + 1), until one is larger. The chance that any true
    hypothesis is among those rejected is at most delta. Source: Holm, Scandinavian Journal of Statistics 6(2), 1979.
    """
    order = p_values.argsort(stable=True)
    levels = delta / torch.arange(len(p_values), 0, -1, dtype=torch.float64)
    rejected = torch.zeros_like(p_values, dtype=torch.bool)
    rejected[order] = (p_values[order] <= levels).long().cumprod(0).bool()
    return rejected


def fixed_sequence(p_values: Tensor, delta: float) -> Tensor:
    """How many of G hypotheses (..., G) are rejected, tested in order at level delta until the first is not, (...).

    The chance that a true one is among them is at most delta, provided their order was fixed beforehand.
    """
    return (p_values <= delta).long().cumprod(-1).sum(-1)


def smallest_sample(enough: Callable[[int], bool], step: int = 1) -> int:
    """The smallest multiple of a step that is `enough`, which no smaller number than an enough one is; by bisection."""
    high = 1
    while not enough(high * step):
        high *= 2
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle * step) else (middle, high)
    return high * step


def smallest_binomial_split(limit: float, delta: float) -> int:
    """The fewest losses with which `binomial_p_value` can be at most delta: none is 1, and (1 - limit)^n <= delta."""
    n = max(1, math.floor(math.log(delta) / math.log1p(-limit)))
    while n * math.log1p(-limit) > math.log(delta):  # the quotient is rounded
        n += 1
    return n
