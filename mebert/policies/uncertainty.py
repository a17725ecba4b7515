"""How uncertain an exit is, as pure functions: entropy, distance ratio, their hybrid, and changes from exit to exit.

Shapes: C classes; `...` any. All are in [0, 1]; lower is more confident. Of logits (..., C, 2), those of several labels
a row, they are values of each label, (..., C), of which a policy takes the mean (`of_rows`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def normalised_entropy(logits: Tensor) -> Tensor:
    """u(p) = H(p) / ln C of the softmax, in [0, 1]: 0 is certain, 1 is uniform.

    Computed from `softmax` in float32, which subtracts the maximum, and `entr`, which is 0 at 0: finite for logits of
    any size, where sums of exponentials overflow and p log p of an underflowed p is NaN (and NaN < threshold is false,
    so that the most confident samples would never leave). It has few operations, as it runs at every exit.

    Args:
        logits: (..., C) with C at least 2.

    >>> normalised_entropy(torch.tensor([[0.0, 0.0], [1e4, -1e4]])).tolist()
    [1.0, 0.0]
    """
    entropy = torch.special.entr(logits.float().softmax(-1)).sum(-1)
    return (entropy / math.log(logits.shape[-1])).clamp_max(1.0)


def of_rows(values: Tensor) -> Tensor:
    """Values of rows (B,) as they are; of the labels of rows (B, C) the mean of each row, (B,)."""
    return values.float().mean(1) if values.ndim == 2 else values


def distance_ratio(distances: Tensor, predicted: Tensor) -> Tensor:
    """DR = 1/2 (1 + (r1 - r2) / max(r1, r2)), in [0, 1] (DE3-BERT; REPORTED).

    r1 is the distance to the prototype of the class that the exit predicts and r2 the distance to the nearest other
    class's (which ones: RECONSTRUCTED). Small when the prediction sits among its own.

    Args:
        distances: (..., C), at least 0; infinite for a class without a prototype.
        predicted: (...) int64, the exit's predicted class.

    >>> distance_ratio(torch.tensor([[1.0, 4.0]]), torch.tensor([0])).tolist()
    [0.125]
    """
    r1 = distances.gather(-1, predicted.unsqueeze(-1)).squeeze(-1)
    others = distances.scatter(-1, predicted.unsqueeze(-1), float("inf"))
    r2 = others.amin(-1)
    largest = torch.maximum(r1, r2)
    ratio = torch.where(largest > 0, (r1 - r2) / largest, 0.0)
    # An infinite distance means "no such prototype": no evidence against (r2) or none in favour (r1).
    ratio = torch.where(torch.isinf(r2), -1.0, ratio)
    ratio = torch.where(torch.isinf(r1), 1.0, ratio)
    return 0.5 * (1.0 + ratio)


def hybrid_indicator(dr: Tensor, entropy: Tensor, lam: float) -> Tensor:
    """EDR = (lam + 1) / (lam / DR + 1 / u), in [0, 1] (DE3-BERT; REPORTED).

    The weighted harmonic mean of the distance ratio and the normalised entropy: lam = 0 is pure entropy, a large lam
    tends to pure distance ratio; 0 where either is 0, the limit.

    Args:
        dr: Distance ratio, any shape, [0, 1].
        entropy: Normalised entropy, same shape, [0, 1].
        lam: Weight of the distance ratio, at least 0; infinity gives the distance ratio itself.

    >>> hybrid_indicator(torch.tensor([0.2]), torch.tensor([0.6]), 1.0)
    tensor([0.3000])
    """
    if lam == 0:
        return entropy
    if math.isinf(lam):
        return dr
    below = lam * entropy + dr
    return torch.where(below > 0, (lam + 1) * dr * entropy / below.clamp_min(1e-30), 0.0)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of probabilities (..., C) in bits, in [0, 1]: H((p + q) / 2) - (H(p) + H(q)) / 2.

    >>> jensen_shannon(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.0, 1.0], [0.5, 0.5]])).tolist()
    [1.0, 0.0]
    """
    entropies = [torch.special.entr(x.float()).sum(-1) for x in ((p + q) / 2, p, q)]
    divergence = entropies[0] - (entropies[1] + entropies[2]) / 2
    return (divergence / math.log(2.0)).clamp(0.0, 1.0)


def mean_entropy(p: Tensor, q: Tensor) -> Tensor:
    """H((p + q) / 2) / ln C of probabilities (..., C), in [0, 1]: F-PABEE's score of two exits (EXACT but for ln C).

    >>> mean_entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [0.0, 1.0]
    """
    entropy = torch.special.entr((p.float() + q.float()) / 2).sum(-1)
    return (entropy / math.log(p.shape[-1])).clamp_max(1.0)


def value_change(values: Tensor, before: Tensor) -> Tensor:
    """How far an estimate moved from one exit to the next: d / (1 + d) in [0, 1) with d = |z_i - z_{i-1}|.

    That d is compared with a threshold is PABEE's rule for regression with patience 1 (Zhou et al., arXiv 2006.04152);
    the map to [0, 1) only gives all policies one range of thresholds: d < tau / (1 - tau). The estimates (...) are in
    the unit of the labels.

    >>> value_change(torch.tensor([2.0, 3.0]), torch.tensor([2.0, 2.0])).tolist()
    [0.0, 0.5]
    """
    distance = (values.float() - before.float()).abs()
    return distance / (1.0 + distance)
