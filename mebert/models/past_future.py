"""A model whose exits also read what earlier exits have pooled, and what later ones would pool (GPFEE).

Source: Liao et al., "A Global Past-Future Early Exit Method for Accelerating Inference of Pre-trained Language Models",
NAACL 2021, and its released code; what is exact and what is reconstructed stands in docs/methods.md.
Shapes: E exits, i the exit that predicts (from 1), J = E - i exits after it, B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from mebert.errors import UserError
from mebert.models.heads import ExitHead, per_label
from mebert.models.layer_state import LayerState
from mebert.models.multi_exit import MultiExitModel
from mebert.models.windows import mean_of_windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PastFutureHead(ExitHead):
    """One exit's own part: c = tanh(Linear(pooled)), and a Linear(F -> 2 C) of it, C votes and C values for the gate.

    The same Linear reads what earlier exits imagine in the place of c.
    """

    def summarise(self, pooled: Tensor) -> Tensor:
        """What the pooling has read, (B, F), to the feature c, (B, F)."""
        summary: Tensor = self.classifier[1](self.classifier[0](pooled))
        return summary

    def votes_and_gate(self, feature: Tensor) -> Tensor:
        """The feature c (B, F) to votes and values for the gate, (B, 2 C) float32."""
        values: Tensor = self.classifier[3](self.classifier[2](feature))
        return values.float()


class PastFutureModel(MultiExitModel):
    """GPFEE's model: exit i weighs what exits 1..i have pooled against its idea of what exits i+1..E would pool.

    With c_j the feature of exit j and [v_j, g_j] = Linear_j(c_j), each of C values:

        past   = sum over j <= i of v_j                    future = sum over j > i of v_j at tanh(Imitate_j(c_i))
        gate   = sigmoid(Gate(tanh(sum over j <= i of g_j / i)))
        logits = 2 gate past + 2 (1 - gate) future

    The sums over the past travel from exit to exit as the state's memory, (B, 2 C). A skipped exit is still
    read on the way, which costs it no votes on the future. Features of earlier exits get no gradient from later ones.

    Args:
        encoder: A Hugging Face base model of a supported family.
        num_labels: C; 1 means regression.
        head: `mlp` only.
        kwargs: Further arguments of MultiExitModel.

    Raises:
        UserError: Another head, or fewer than 2 exits.
    """

    def __init__(self, encoder: PreTrainedModel, num_labels: int = 2, head: str = "mlp", **kwargs: Any) -> None:
        if head != "mlp":
            raise UserError(f"head {head} has no place in GPFEE, whose exits are Linear, tanh, Linear; take mlp")
        super().__init__(encoder, num_labels, **kwargs)
        if self.num_exits < 2:
            raise UserError("GPFEE needs at least 2 exits, of which one imagines the other: give more exit_layers")
        size = self.feature_size
        self.imitate = nn.Linear(size, (self.num_exits - 1) * size)  # one Linear(F -> F) for each exit but the first
        self.gate = nn.Linear(num_labels, num_labels)
        for linear in (self.imitate, self.gate):
            nn.init.normal_(linear.weight, std=0.02)  # BERT's own initialisation, as in the released code
            nn.init.zeros_(linear.bias)

    @override
    def make_head(self) -> PastFutureHead:
        return PastFutureHead(self.hidden_size, 2 * self.num_labels, self.pooling, "mlp", self.head_dropout)

    @override
    def exit(self, exit_index: int) -> PastFutureHead:
        head: PastFutureHead = self.exits[exit_index]  # type: ignore[assignment]
        return head

    @override
    def step(self, state: LayerState, exit_index: int) -> tuple[LayerState, Tensor, Tensor]:
        read = sum(depth <= state.depth for depth in self.exit_layers)
        for index in range(read, exit_index):
            state, _, _ = self._read(state, index)
        state, feature, votes = self._read(state, exit_index)
        logits = self._logits(exit_index, feature, votes)
        logits = mean_of_windows(logits, state.windows)
        return state, per_label(logits) if self.multi_label else logits, mean_of_windows(feature, state.windows)

    def imagine(self, exit_index: int, feature: Tensor) -> Tensor:
        """What an exit, from its own feature c_i (B, F), takes the features of all later exits to be, (B, J, F)."""
        first = exit_index * feature.shape[-1]
        imagined = F.linear(feature, self.imitate.weight[first:], self.imitate.bias[first:])
        return imagined.tanh().unflatten(-1, (self.num_exits - 1 - exit_index, -1))

    def _read(self, state: LayerState, index: int) -> tuple[LayerState, Tensor, Tensor]:
        """Go on to an exit: the state with its memory, the exit's feature, and the sum of votes so far, (B, 2 C)."""
        state, head = self.adapter.advance(state, self.exit_layers[index]), self.exit(index)
        feature = head.summarise(self.adapter.pool(state, head))
        before = 0.0 if state.memory is None else state.memory
        votes = before + head.votes_and_gate(feature)
        learns = torch.is_grad_enabled() and feature.requires_grad
        memory = before + head.votes_and_gate(feature.detach()) if learns else votes
        return replace(state, memory=memory), feature, votes

    def _logits(self, index: int, feature: Tensor, votes: Tensor) -> Tensor:
        """Logits (B, C) of an exit, from its feature and the sum of all votes so far."""
        past, key = votes.split(self.num_labels, -1)
        opened = torch.tanh(key / (index + 1)).to(self.gate.weight.dtype)
        gate = self.gate(opened).float().sigmoid()
        if index == self.num_exits - 1:
            return 2 * gate * past
        return 2 * gate * past + 2 * (1 - gate) * self._future(index, feature)

    def _future(self, index: int, feature: Tensor) -> Tensor:
        """The votes of all later exits, each on what this exit takes its feature to be, summed, (B, C)."""
        imagined = self.exit(index).classifier[2](self.imagine(index, feature).flatten(1))
        votes: list[Any] = [self.exit(later).classifier[3] for later in range(index + 1, self.num_exits)]
        weight = torch.cat([vote.weight[: self.num_labels] for vote in votes], 1)
        bias = torch.stack([vote.bias[: self.num_labels] for vote in votes]).sum(0)
        return F.linear(imagined, weight, bias).float()

    @override
    def head_flops(self, exit_index: int, tokens: Tensor) -> Tensor:
        size, labels, later = self.feature_size, self.num_labels, self.num_exits - 1 - exit_index
        return self.skipped_exit_flops(exit_index, tokens) + 2 * (labels**2 + later * (size**2 + size * labels))

    @override
    def skipped_exit_flops(self, exit_index: int, tokens: Tensor) -> Tensor:
        return self.exit(exit_index).flops(tokens)


def imitation_loss(imagined: Sequence[Tensor], features: Tensor) -> Tensor:
    """How far the features that exits imagine are from the true ones, a scalar (EXACT).

    Mean over all exits but the last of the mean over samples and later exits of 1 - cos(imagined, true). An exit's
    imagined features are (B, J, F), the true ones c (E, B, F), without gradient.
    """
    true = features.detach().float().transpose(0, 1)
    distances = []
    for index, ahead in enumerate(imagined):
        distances.append((1 - F.cosine_similarity(ahead.float(), true[:, index + 1 :], dim=-1)).mean())
    return torch.stack(distances).mean()
