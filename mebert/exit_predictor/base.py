"""What a predictor of exits is: from a text's tokens to the exit that it will take, before any layer runs.

Shapes: B samples, S tokens, E exits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mebert.errors import UserError
from mebert.exit_predictor.coverage import check_coverage, choose_exits
from mebert.policies import ExitPolicy
from mebert.storage.trusted_classes import imported_class

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel

__all__ = [
    "MISSING",
    "ExitPredictor",
    "PredictorOrigin",
    "TokenEvidence",
    "choose_predictor",
    "load_predictors",
    "predictor_from_state",
    "save_predictors",
]

FORMAT = 1

SETTINGS, WEIGHTS = "exit_predictor.json", "exit_predictor.safetensors"

MISSING = (
    "train with --exit_prediction.kind token, or make one with mebert.exit_predictor.fit_predictor and save it with "
    ".save(<model folder>)"
)


def save_predictors(folder: str | Path, predictors: Sequence[ExitPredictor]) -> None:
    """Write predictors into a folder, in place of those that it has; none removes them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).unlink(missing_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    if not predictors:
        return
    states = [predictor.state() for predictor in predictors]
    tensors = {f"{n}.{name}": tensor for n, state in enumerate(states) for name, tensor in state["tensors"].items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    listed = [{key: value for key, value in state.items() if key != "tensors"} for state in states]
    text = json.dumps({"format": FORMAT, "predictors": listed}, indent=2)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def load_predictors(path: str | Path) -> list[ExitPredictor]:
    """The predictors of a folder or Hub id; none where it has none.

    Those that read the model must be bound to it (`bind`) before they predict.

    Raises:
        UserError: What is there cannot be read.
    """
    from transformers.utils import cached_file

    kept: dict[str, Any] = {"_raise_exceptions_for_missing_entries": False}
    settings, weights = (cached_file(str(path), name, **kept) for name in (SETTINGS, WEIGHTS))
    if settings is None or weights is None:
        return []
    try:
        content = json.loads(Path(settings).read_text(encoding="utf-8"))
        tensors = load_file(weights)
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{settings}: this exit predictor cannot be read: {error}") from error
    if content.get("format") != FORMAT:
        raise UserError(f"{settings} has format {content.get('format')!r}; this version of mebert reads {FORMAT}")
    found = []
    for n, state in enumerate(content["predictors"]):
        own = {name.removeprefix(f"{n}."): tensor for name, tensor in tensors.items() if name.startswith(f"{n}.")}
        found.append(predictor_from_state({**state, "tensors": own}))
    return found


def choose_predictor(predictors: Sequence[ExitPredictor], policy: ExitPolicy) -> ExitPredictor:
    """The predictor that learnt from the exits of this policy at its threshold; of one without an origin, that one.

    Args:
        predictors: Those of a checkpoint or a model folder.
        policy: The one that is asked for.

    Raises:
        UserError: There is none; the text says which there are and how to make one.
    """
    for predictor in predictors:
        origin = predictor.origin
        if origin is None or (origin.policy == policy.name and abs(origin.threshold - policy.threshold) < 1e-9):
            return predictor
    if not predictors:
        raise UserError(f"engine predicted: no exit predictor is stored with this model; {MISSING}")
    stored = ", ".join(_described(predictor) for predictor in predictors)
    raise UserError(
        f"engine predicted: no exit predictor for {policy.name} at threshold {policy.threshold:.6g} "
        f"(stored: {stored}); ask for one of these"
    )


def _described(predictor: ExitPredictor) -> str:
    origin = predictor.origin
    assert origin is not None
    speedup = "" if origin.speedup is None else f" ({origin.speedup:g}x)"
    return f"{origin.policy} {origin.threshold:.4g}{speedup}"


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
        save_predictors(folder, [self])

    @staticmethod
    def load(folder: str | Path) -> ExitPredictor:
        """The predictor saved in a folder (of several: the first). One that reads the model must be bound again.

        Raises:
            UserError: There is none.
        """
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
