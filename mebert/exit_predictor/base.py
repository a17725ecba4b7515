"""The base of exit predictors: from a text's tokens to the exit that it will take, before any layer runs.

Shapes: B samples, S tokens, E exits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import cached_file

from mebert.errors import UserError, check_range
from mebert.exit_predictor.coverage import check_coverage, choose_exits
from mebert.policies import ExitPolicy
from mebert.storage.atomic import atomic_path, write_text
from mebert.storage.json_values import check_values, faults_in, read_values
from mebert.storage.model_spec import only_writer
from mebert.storage.predictor_spec import PredictorFile, PredictorOrigin, PredictorSpec
from mebert.storage.thresholds import same_threshold, threshold_text
from mebert.storage.trusted_classes import instance_of

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel

MOST = 2**26  # rows or exits of a predictor's tables
MOST_ENTRIES = 2**28  # of a table: memory is taken for it before it is read
SETTINGS, WEIGHTS = "exit_predictor.json", "exit_predictor.safetensors"

MADE_ANEW = "make the predictor anew, or delete the file"
MISSING = (
    "train with --exit_prediction.kind token, or make one with mebert.exit_predictor.fit_predictor and save it with "
    ".save(<model folder>)"
)


@dataclass(frozen=True)
class TokenEvidence:
    """A predictor's distribution over exits for single tokens (S, E), and how often it has seen each, (S,) int64."""

    distribution: Tensor
    counted: Tensor


class ExitPredictor(nn.Module):
    """Predicts the exit of a sample before it runs; GEEP's exit-layer prediction (RECONSTRUCTED).

    A subclass gives `distribution`, `settings` and, if it is fitted, `tensors` and `load_tensors`. Nothing in `predict`
    waits for an accelerator.

    Args:
        num_exits: E.
        coverage: How `predict` reads a distribution: null takes the most probable exit, a number in (0, 1] the smallest
            exit whose cumulative mass reaches it.
    """

    reads: ClassVar[str] = "the tokens of a text"
    """What the distribution is computed from, in words, for `inspect`."""

    def __init__(self, num_exits: int, coverage: float | None = None) -> None:
        super().__init__()
        check_range("num_exits", num_exits, 1, MOST)
        check_coverage(coverage)
        self.num_exits = num_exits
        self.coverage = coverage
        self.origin: PredictorOrigin | None = None

    def distribution(
        self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None
    ) -> Tensor:
        """The probability that each sample leaves at each exit, (B, E) float32.

        Token ids are (B, S) int64; masks (B, S) have 1 for a token and for a special token (None: unknown).
        """
        raise TypeError(f"{type(self).__name__} must define distribution")

    def of_tokens(self, tokens: Tensor) -> TokenEvidence | None:
        """The evidence of single tokens, ids (S,) int64; None if the predictor does not use them one by one."""
        return None

    def evidence(self, tokens: Tensor, counts: Tensor) -> TokenEvidence:
        """The distribution of texts of one token each, ids (S,), and the tokens' counts, out of those of all ids."""
        alone, size = tokens.unsqueeze(1), len(counts)
        known = ((tokens >= 0) & (tokens < size)).cpu()
        counted = torch.where(known, counts[tokens.cpu().clamp(0, size - 1)], 0)
        return TokenEvidence(self.distribution(alone, torch.ones_like(alone)), counted)

    def settings(self) -> dict[str, Any]:
        """Arguments of the constructor, as plain values."""
        return {"num_exits": self.num_exits, "coverage": self.coverage}

    def tensors(self) -> dict[str, Tensor]:
        """The fitted tensors, for saving."""
        return dict(self.state_dict())

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of `tensors`."""
        self.load_state_dict(dict(tensors))

    def bind(self, model: MultiExitModel) -> Self:
        """Take the parts of a model that the prediction needs (its embeddings, for example); returns itself."""
        if model.num_exits != self.num_exits:
            raise UserError(f"this exit predictor is for {self.num_exits} exits, the model has {model.num_exits}")
        return self

    @torch.no_grad()
    def predict(self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None) -> Tensor:
        """The 0-based exit of each sample, (B,) int64; arguments as `distribution`."""
        return choose_exits(self.distribution(input_ids, attention_mask, special_tokens_mask), self.coverage)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None) -> Tensor:
        return self.distribution(input_ids, attention_mask, special_tokens_mask)

    def state(self) -> dict[str, Any]:
        """Plain values, as in `PredictorSpec`, and tensors (on the CPU), for `predictor_from_state`."""
        return {
            "class_path": f"{type(self).__module__}.{type(self).__qualname__}",
            "init_args": self.settings(),
            "origin": None if self.origin is None else dict(vars(self.origin)),
            "tensors": {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors().items()},
        }

    def save(self, folder: str | Path) -> None:
        """Write `exit_predictor.json` and `exit_predictor.safetensors` with this predictor alone."""
        save_predictors(folder, [self])

    @staticmethod
    def load(folder: str | Path) -> ExitPredictor:
        """The (first) predictor saved in a folder. One that reads the model must be bound again."""
        found = load_predictors(folder)
        if not found:
            raise UserError(f"{folder} has no exit predictor: {MISSING}")
        return found[0]


def predictor_from_state(state: Mapping[str, Any]) -> ExitPredictor:
    """The predictor that `ExitPredictor.state` described, on the CPU; not bound to a model.

    Its class must be in a module that is already imported, so that no file can name code to be loaded.
    """
    spec = check_values(PredictorSpec, state, "the saved exit predictor is damaged")
    predictor = instance_of(spec.class_path, spec.init_args, ExitPredictor, "the saved exit predictor")
    with faults_in(f"the saved exit predictor {spec.class_path!r} is damaged"):
        predictor.load_tensors(state["tensors"])
    predictor.origin = spec.origin
    return predictor.eval()


def save_predictors(folder: str | Path, predictors: Sequence[ExitPredictor]) -> None:
    """Write predictors into a folder, replacing those that it has; an empty sequence removes them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    states = [predictor.state() for predictor in predictors]
    tensors = {f"{n}.{name}": tensor for n, state in enumerate(states) for name, tensor in state.pop("tensors").items()}
    with only_writer(folder):
        (folder / SETTINGS).unlink(missing_ok=True)  # written last: without it there is no predictor
        (folder / WEIGHTS).unlink(missing_ok=True)
        if states:
            with atomic_path(folder / WEIGHTS) as unfinished:
                save_file(tensors, unfinished, metadata={"format": "pt"})
            write_text(json.dumps({"format": 1, "predictors": states}, indent=2) + "\n", folder / SETTINGS)


def load_predictors(path: str | Path) -> list[ExitPredictor]:
    """The predictors of a folder or Hub id; empty if it has none. Those that read the model are not bound to it yet."""
    settings, weights = (
        cached_file(str(path), name, _raise_exceptions_for_missing_entries=False) for name in (SETTINGS, WEIGHTS)
    )
    if settings is None or weights is None:
        return []
    found = []
    with faults_in(f"{path}/{SETTINGS}", MADE_ANEW):
        tensors = load_file(weights)
        for n, spec in enumerate(
            read_values(Path(settings), PredictorFile, f"{path}/{SETTINGS}", MADE_ANEW).predictors
        ):
            own = {name.removeprefix(f"{n}."): tensor for name, tensor in tensors.items() if name.startswith(f"{n}.")}
            found.append(predictor_from_state({**vars(spec), "tensors": own}))
    return found


def choose_predictor(predictors: Sequence[ExitPredictor], policy: ExitPolicy) -> ExitPredictor:
    """The predictor that was fitted to this policy at its threshold, or one without an origin, which fits any."""
    for predictor in predictors:
        origin = predictor.origin
        if origin is None or (origin.policy == policy.name and same_threshold(origin.threshold, policy.threshold)):
            return predictor
    if not predictors:
        raise UserError(f"engine predicted: no exit predictor is stored with this model; {MISSING}")
    stored = [
        f"{origin.policy} {threshold_text(origin.threshold)}"
        + ("" if origin.speedup is None else f" ({origin.speedup:g}x)")
        for origin in (predictor.origin for predictor in predictors)
        if origin is not None
    ]
    raise UserError(
        f"engine predicted: no exit predictor for {policy.name} at threshold {threshold_text(policy.threshold, 6)} "
        f"(stored: {', '.join(stored)}); ask for one of these"
    )
