"""What every exit costs, counted.

FLOPs = 2 x multiply-adds of matrix products, as `torch.utils.flop_counter` counts them: projections, attention
scores and their weighted sums, feed-forward, exit heads, prototypical networks. Not counted: embedding look-ups,
LayerNorm, softmax, activations, distances to prototypes. A sample costs what its own tokens cost (where a model reads
windows: all its windows, overlaps included); padding is the engine's waste and shows in wall-clock time.
Shapes: N samples, E exits, S tokens, H hidden, I intermediate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mebert.models.multi_exit import MultiExitModel
from mebert.models.pretrained import PolicyLike


def exit_flops(model: MultiExitModel, lengths: Tensor, policy: PolicyLike | None = None) -> Tensor:
    """Cost of leaving at each exit when the exits are tried one after another, (E, N) float64.

    Counts the layers up to the exit, the heads of all exits up to it, and the policy's own products at every exit but
    the last (where there is nothing to decide), for samples of `lengths` (N,) tokens.
    """
    decision = 0 if policy is None else policy.flops()
    asked = torch.arange(1, model.num_exits + 1, device=lengths.device).clamp_max(model.num_exits - 1)
    return flops_of_windows(model.sequential_exit_flops, lengths, model.window) + decision * asked.unsqueeze(1)


def direct_exit_flops(model: MultiExitModel, lengths: Tensor) -> Tensor:
    """Cost of running straight to each exit, which alone is asked, (E, N) float64: fixed and predicted exits."""
    return flops_of_windows(model.direct_exit_flops, lengths, model.window)


def single_exit_flops(model: MultiExitModel, lengths: Tensor) -> Tensor:
    """Cost of the plain model, (N,) float64: all layers and the last head. The base of every FLOPs speed-up."""
    return direct_exit_flops(model, lengths)[-1]


def flops_of_windows(cost: Callable[[Tensor], Tensor], lengths: Tensor, window: int | None) -> Tensor:
    """Costs (..., N) of samples whose tokens (N,) are read in windows of `window` tokens, the last of them shorter.

    `cost` maps the lengths of inputs (N,) to their costs (..., N); `window` None: a sample is one input.
    """
    if window is None:
        return cost(lengths)
    full = (lengths - 1).clamp_min(0).div(window, rounding_mode="floor")
    return full * cost(lengths.new_full((1,), window)) + cost(lengths - full * window)
