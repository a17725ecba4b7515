"""What every exit costs, counted.

FLOPs = 2 x multiply-adds of matrix products, as `torch.utils.flop_counter` counts them: projections, attention
scores and their weighted sums, feed-forward, exit heads, prototypical networks. Not counted: embedding look-ups,
LayerNorm, softmax, activations, distances to prototypes. A sample costs what its own tokens cost; padding is the
engine's waste and shows in wall-clock time. Shapes: N samples, E exits, S tokens, H hidden, I intermediate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mebert.models.encoder import EncoderWalk
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy

__all__ = ["encoder_flops", "exit_flops", "single_exit_flops", "straight_flops"]


def encoder_flops(walk: EncoderWalk, lengths: Tensor, depth: int) -> Tensor:
    """Cost of the embeddings' projection and the first `depth` layers, (N,) float64.

    One layer: 2 (4 S H^2 + 2 S^2 H + 2 S H I).

    Args:
        walk: The encoder's adapter.
        lengths: Tokens of each sample, (N,), special tokens included.
        depth: Number of layers.
    """
    s = lengths.double()
    h, i, e = walk.hidden_size, walk.intermediate_size, walk.embedding_size
    projects = e != h or walk.config.model_type == "albert"  # ALBERT projects even when the sizes are equal
    embedding = 2 * s * e * h if projects else torch.zeros_like(s)
    return embedding + depth * 2 * (4 * s * h**2 + 2 * s**2 * h + 2 * s * h * i)


def exit_flops(model: MultiExitModel, lengths: Tensor, policy: ExitPolicy | None = None) -> Tensor:
    """Cost of leaving at each exit when the exits are tried one after another, (E, N) float64.

    Counts the layers up to the exit, the heads of all exits up to it, and the policy's own products at every exit but
    the last (where there is nothing to decide).

    Args:
        model: The multi-exit model.
        lengths: Tokens of each sample, (N,).
        policy: Its `flops()` are added; None adds nothing.
    """
    s = lengths.double()
    decision = 0 if policy is None else policy.flops()
    heads = torch.zeros_like(s)
    costs = []
    for index, depth in enumerate(model.exit_layers):
        heads = heads + model.exit(index).flops(s)
        decisions = decision * min(index + 1, model.num_exits - 1)
        costs.append(encoder_flops(model.walk, lengths, depth) + heads + decisions)
    return torch.stack(costs)


def straight_flops(model: MultiExitModel, lengths: Tensor) -> Tensor:
    """Cost of running straight to each exit, whose head alone is computed, (E, N) float64: fixed and predicted exits.

    Args:
        model: The multi-exit model.
        lengths: Tokens of each sample, (N,).
    """
    s = lengths.double()
    return torch.stack(
        [encoder_flops(model.walk, lengths, d) + model.exit(i).flops(s) for i, d in enumerate(model.exit_layers)]
    )


def single_exit_flops(model: MultiExitModel, lengths: Tensor) -> Tensor:
    """Cost of the plain model, (N,) float64: all layers and the last head. The base of every FLOPs speed-up."""
    last = model.exit(model.num_exits - 1)
    return encoder_flops(model.walk, lengths, model.num_layers) + last.flops(lengths.double())
