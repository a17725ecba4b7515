"""What a predictor of exits is: from a text's tokens to the exit that it will take, before any layer runs.

Shapes: B samples, S tokens, E exits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from mebert.errors import UserError
from mebert.exit_predictor.coverage import check_coverage, choose_exits
from mebert.imported import imported_class

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel

__all__ = ["ExitPredictor", "PredictorOrigin", "TokenEvidence", "predictor_from_state"]


@dataclass(frozen=True)
class PredictorOrigin:
    """The exits that a predictor has learnt from.

    Attributes:
        policy: Name of the policy that took them.
        threshold: Its threshold.
        speedup: The speed-up by layers for which the threshold was chosen; None where it was not chosen for one.
        split: Name of the split.
        rows: Number of samples.
    """

    policy: str
    threshold: float
    speedup: float | None = None
    split: str = ""
    rows: int = 0


@dataclass(frozen=True)
class TokenEvidence:
    """What a predictor says of tokens one by one.

    Attributes:
        distribution: For each token over exits, (S, E), rows summing to 1.
        counted: How often the predictor has seen each token, (S,) int64; 0: it knows nothing of it.
    """

    distribution: Tensor
    counted: Tensor


class ExitPredictor(nn.Module):
    """Says before a sample runs at which exit it will leave; GEEP's exit-layer prediction (RECONSTRUCTED).

    To write another one, subclass, give `distribution`, `settings` and, where it has learnt something, `tensors` and
    `load_tensors`. Nothing in `predict` waits for an accelerator.

    Args:
        num_exits: E.
        coverage: How `predict` reads a distribution: null takes the likeliest exit, a number in (0, 1] the smallest
            exit whose cumulative mass reaches it.
    """

    reads: ClassVar[str] = "the tokens of a text"
    """What the distribution is made of, in words, for people who look into a prediction."""

    def __init__(self, num_exits: int, coverage: float | None = None) -> None:
        super().__init__()
        if num_exits < 1:
            raise UserError(f"num_exits must be at least 1, got {num_exits}")
        check_coverage(coverage)
        self.num_exits = num_exits
        self.coverage = coverage
        self.origin: PredictorOrigin | None = None

    # ---- what a subclass gives ------------------------------------------------------------------------------

    def distribution(
        self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None
    ) -> Tensor:
        """The probability that each sample leaves at each exit, (B, E) float32.

        Args:
            input_ids: (B, S) int64.
            attention_mask: (B, S), 1 for a token and 0 for padding.
            special_tokens_mask: (B, S), 1 for special tokens; None where they are not told apart.
        """
        raise TypeError(f"{type(self).__name__} must define distribution")

    def of_tokens(self, tokens: Tensor) -> TokenEvidence | None:
        """What each of some tokens says by itself; None where they are not judged one by one.

        Args:
            tokens: Token ids, (S,) int64.
        """
        return None

    def settings(self) -> dict[str, Any]:
        """Arguments of the constructor, as plain values."""
        return {"num_exits": self.num_exits, "coverage": self.coverage}

    def tensors(self) -> dict[str, Tensor]:
        """What has been learnt, for saving."""
        return dict(self.state_dict())

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        self.load_state_dict(dict(tensors))

    def bind(self, model: MultiExitModel) -> Self:
        """Take from the model what the prediction needs (its embeddings, say); returns itself."""
        return self

    # ---- what callers use -----------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None) -> Tensor:
        """The 0-based exit of each sample, (B,) int64; arguments as `distribution`."""
        return choose_exits(self.distribution(input_ids, attention_mask, special_tokens_mask), self.coverage)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None) -> Tensor:
        return self.distribution(input_ids, attention_mask, special_tokens_mask)

    def state(self) -> dict[str, Any]:
        """Plain values and tensors (on the CPU) from which `predictor_from_state` makes the predictor again."""
        return {
            "class_path": f"{type(self).__module__}.{type(self).__qualname__}",
            "init_args": self.settings(),
            "origin": None if self.origin is None else asdict(self.origin),
            "tensors": {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors().items()},
        }

    def save(self, folder: str | Path) -> None:
        """Write `exit_predictor.json` and `exit_predictor.safetensors` with this predictor alone."""
        from mebert.exit_predictor.storage import save_predictors

        save_predictors(folder, [self])

    @staticmethod
    def load(folder: str | Path) -> ExitPredictor:
        """The predictor saved in a folder (of several: the first). One that reads the model must be bound again.

        Raises:
            UserError: There is none.
        """
        from mebert.exit_predictor.storage import MISSING, load_predictors

        found = load_predictors(folder)
        if not found:
            raise UserError(f"{folder} has no exit predictor: {MISSING}")
        return found[0]


def predictor_from_state(state: Mapping[str, Any]) -> ExitPredictor:
    """The predictor that `ExitPredictor.state` described, on the CPU; not bound to a model.

    A class is only looked up in modules that are imported already, so that no file can name code to be loaded.

    Raises:
        UserError: The class is unknown, is no predictor, or what was saved does not fit it.
    """
    path = str(state.get("class_path", ""))
    found = imported_class(path, ExitPredictor, "the saved exit predictor")
    try:
        predictor = found(**state["init_args"])
        predictor.load_tensors(state["tensors"])
        origin = state.get("origin")
        predictor.origin = None if origin is None else PredictorOrigin(**origin)
    except (TypeError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"the saved exit predictor {path!r} is damaged: {error}") from error
    return predictor.eval()
