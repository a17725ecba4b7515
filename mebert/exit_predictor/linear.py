"""A linear head on the embedding output that predicts the exit: a baseline for GEEP's table.

Shapes: B samples, S tokens, E exits, H hidden, N fitted samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from mebert.errors import UserError, check_range
from mebert.exit_predictor.base import MOST, ExitPredictor

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel


class LinearExitPredictor(ExitPredictor):
    """softmax(W x + b), x the mean embedding output of a text's tokens and the logarithm of its length.

    RECONSTRUCTED: a baseline for GEEP's table. It reads the model's embeddings, so it must be bound to the model
    (`bind`); no layer runs. Special tokens are included: they are the same in every text.

    Args:
        num_exits: E.
        hidden_size: H.
        coverage: As in `ExitPredictor`.
        penalty: Weight of the squared norm of W against the summed cross-entropy, at least 0.
    """

    reads: ClassVar[str] = "a linear head on the mean embedding of the text's tokens and its length"

    def __init__(self, num_exits: int, hidden_size: int, coverage: float | None = None, penalty: float = 1.0) -> None:
        super().__init__(num_exits, coverage)
        check_range("hidden_size", hidden_size, 1, MOST)
        check_range("penalty", penalty, 0)
        self.hidden_size = hidden_size
        self.penalty = penalty
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.zeros(num_exits, hidden_size + 1))
        self.register_buffer("bias", torch.zeros(num_exits))
        self._models: list[MultiExitModel] = []  # in a list, so that the model is not a submodule

    def bind(self, model: MultiExitModel) -> Self:
        if model.adapter.hidden_size != self.hidden_size:
            found = model.adapter.hidden_size
            raise UserError(f"this exit predictor is for a hidden size of {self.hidden_size}, the model has {found}")
        self._models = [model]
        return super().bind(model)

    @torch.no_grad()
    def features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The head's input for a batch, (B, H+1) float32."""
        if not self._models:
            raise UserError("LinearExitPredictor is not bound to a model yet: call predictor.bind(model)")
        hidden = self._models[0].adapter.embed(input_ids, None).float()
        mask = attention_mask.to(hidden.dtype).unsqueeze(1)
        length = mask.sum(-1)
        mean = (mask @ hidden).squeeze(1) / length.clamp(min=1)
        return torch.cat([mean, length.clamp(min=1).log()], dim=1)

    def fit(self, features: Tensor, exits: Tensor, steps: int = 200) -> Self:
        """Fit the head to features (N, H+1) and 0-based exits (N,) by `steps` of L-BFGS at most; the loss is convex."""
        x = features.double()
        mean, std = x.mean(0), x.std(0, unbiased=False).clamp(min=1e-6)
        x = (x - mean) / std
        weight = torch.zeros(self.num_exits, x.shape[1], dtype=x.dtype, device=x.device, requires_grad=True)
        bias = torch.zeros(self.num_exits, dtype=x.dtype, device=x.device, requires_grad=True)
        optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = F.cross_entropy(x @ weight.T + bias, exits, reduction="sum")
            loss = (loss + self.penalty * weight.square().sum()) / len(x)
            loss.backward()
            return loss

        with torch.enable_grad():
            optimiser.step(closure)
        scaled = weight.detach() / std  # for features that are not standardised
        self.weight.copy_(scaled)
        self.bias.copy_(bias.detach() - scaled @ mean)
        return self

    def distribution(
        self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None
    ) -> Tensor:
        return F.linear(self.features(input_ids, attention_mask), self.weight, self.bias).softmax(-1)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "hidden_size": self.hidden_size, "penalty": self.penalty}
