"""DE3-BERT's prototypical networks and their moving-average prototypes.

Source: He et al., arXiv 2402.05948. Shapes: M exits with a prototypical network (all but the last), B batch,
C classes, D prototype dimension, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mebert.errors import UserError
from mebert.runtime.distributed import world_size


class PrototypeBank(nn.Module):
    """A linear prototypical network and one prototype a class, for every exit but the last.

    The networks g_m = W_m h_m + b_m are trained by gradient; the prototypes c_k^m are not parameters but moving
    averages over training, c <- (1 - gamma) c + gamma * (class mean of g in the batch). That the class mean is taken
    in the batch, and that a class's first mean starts its average, is RECONSTRUCTED. Sums and counts are reduced over
    all ranks first, so that one process and many hold the same prototypes.

    Args:
        num_networks: M, the number of exits minus one.
        hidden_size: H.
        num_labels: C, at least 2.
        dim: D, the prototype dimension.
        gamma: Weight of the newest batch in the moving average, in (0, 1].
    """

    prototypes: Tensor
    seen: Tensor

    def __init__(
        self, num_networks: int, hidden_size: int, num_labels: int, dim: int = 128, gamma: float = 0.1
    ) -> None:
        super().__init__()
        if num_labels < 2:
            raise UserError(
                "prototypes need at least 2 classes, "
                f"got num_labels={num_labels} (a regression task); use MultiExitModule"
            )
        if not 0 < gamma <= 1:
            raise UserError(f"gamma must be in (0, 1], got {gamma}")
        if dim < 1:
            raise UserError(f"prototype_dim must be at least 1, got {dim}")
        self.dim = dim
        self.gamma = gamma
        # Stacked, so that all exits' networks are one batched product in training.
        self.weight = nn.Parameter(torch.empty(num_networks, dim, hidden_size))
        self.bias = nn.Parameter(torch.zeros(num_networks, dim))
        nn.init.normal_(self.weight, std=hidden_size**-0.5)  # keeps the feature's scale in g
        self.register_buffer("prototypes", torch.zeros(num_networks, num_labels, dim))
        self.register_buffer("seen", torch.zeros(num_labels, dtype=torch.bool))

    @property
    def num_networks(self) -> int:
        return self.weight.shape[0]

    def embed(self, features: Tensor) -> Tensor:
        """All exits at once: features (M, B, H) to g (M, B, D), float32."""
        return torch.baddbmm(self.bias.unsqueeze(1), features, self.weight.transpose(1, 2)).float()

    def distances(self, exit_index: int, feature: Tensor) -> Tensor:
        """Euclidean distances of one exit's features (B, H) to its prototypes, (B, C), float32.

        A class that training never showed has no prototype; its distance is infinite.
        """
        # Under mixed precision some recipes' features are half as wide as these weights, which are not in the forward.
        feature = feature.to(self.weight.dtype)
        g = F.linear(feature, self.weight[exit_index], self.bias[exit_index]).float()
        return self._to_prototypes(g.unsqueeze(0), self.prototypes[exit_index : exit_index + 1])[0]

    def distances_of(self, g: Tensor) -> Tensor:
        """Distances of all exits' g (M, B, D) to their prototypes, (M, B, C), float32."""
        return self._to_prototypes(g, self.prototypes)

    def _to_prototypes(self, g: Tensor, prototypes: Tensor) -> Tensor:
        squared = (g.unsqueeze(2) - prototypes.float().unsqueeze(1)).square().sum(-1)
        # The square root's gradient is infinite at 0; the floor is far below any distance that matters.
        return squared.clamp_min(1e-12).sqrt().masked_fill(~self.seen, float("inf"))

    @torch.no_grad()
    def update(self, g: Tensor, labels: Tensor) -> None:
        """Move the prototypes towards the batch's class means; called once a training step.

        Args:
            g: Outputs of the prototypical networks, (M, B, D).
            labels: (B,) int64; rows below 0 are ignored.
        """
        num_labels = self.seen.shape[0]
        one_hot = F.one_hot(labels.clamp_min(0), num_labels).to(g.dtype) * (labels >= 0).unsqueeze(-1)  # (B, C)
        sums = torch.einsum("bc,mbd->mcd", one_hot, g.float())
        counts = one_hot.sum(0)  # (C,)
        if world_size() > 1:
            packed = torch.cat([sums.flatten(), counts])
            torch.distributed.all_reduce(packed)
            sums, counts = packed[: sums.numel()].view_as(sums), packed[sums.numel() :]
        present = counts > 0
        means = sums / counts.clamp_min(1).unsqueeze(-1)
        # The first mean of a class starts its average. In float32, whatever the module and the default type are.
        step = torch.full_like(counts, self.gamma, dtype=means.dtype).masked_fill(~self.seen, 1.0)
        step = (step * present).view(1, -1, 1)
        self.prototypes.copy_(self.prototypes.float().lerp(means, step.expand_as(means)))
        self.seen |= present

    def flops(self) -> int:
        """Counted cost of one exit's prototypical network for one sample, 2 x multiply-adds."""
        return 2 * self.weight.shape[1] * self.weight.shape[2]
