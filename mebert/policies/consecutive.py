"""Rules that ask several exits in a row: patience (PABEE), PCEE, F-PABEE, and the change of an estimate.

Each turns "t exits in a row" into one score that does not depend on the threshold, so that sweeps, stored thresholds
and engines treat them like any other rule. Shapes: B batch, C classes, T = patience.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.metrics.task import same_labels
from mebert.policies.area import area_of_scores
from mebert.policies.base import ExitPolicy
from mebert.policies.uncertainty import jensen_shannon, mean_entropy, normalised_entropy, of_rows, value_change
from mebert.storage.thresholds import Threshold

if TYPE_CHECKING:
    from mebert.metrics.curve import ExitRecord
    from mebert.models.multi_exit import MultiExitModel


TINY = torch.finfo(torch.float32).tiny


@dataclass
class Patience(ExitPolicy):
    """PABEE: leave when t exits in a row have given the same prediction as the exit before them (EXACT).

    With a the number of agreements in a row that end here, the score is 1 / (1 + a), infinite for a = 0; t agreements
    or more are a score below 1 / (t + 1/2), and any threshold tau means the patience t = floor(1 / tau). No sample
    leaves before exit t + 1, and only these few speeds are possible. Of several labels a row the prediction is their
    set. Source: Zhou et al., "BERT Loses Patience", arXiv 2006.04152. For regression see `ValueChange`.

    Args:
        threshold: On 1 / (1 + a), in [0, 1].
        patience: t, at least 1: given instead of the threshold.
    """

    patience: int | None = None

    name = "patience"
    regression = False

    def __post_init__(self) -> None:
        if self.patience is not None:
            _check_patience(self, self.patience)
            self.threshold = 1.0 / (self.patience + 0.5)
        super().__post_init__()

    def with_threshold(self, threshold: Threshold) -> Self:
        other = copy.copy(self)
        if threshold != self.threshold:
            other.patience = None  # the new threshold replaces it
        return super(Patience, other).with_threshold(threshold)

    def observe(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        prediction = logits.argmax(-1)
        agreements = torch.zeros(len(prediction), dtype=torch.int64, device=prediction.device)
        if state is not None:
            before, run = state
            agreements = torch.where(same_labels(prediction, before), run + 1, 0)
        score = torch.where(agreements > 0, 1.0 / (1.0 + agreements.float()), math.inf)
        return score, (prediction, agreements)


@dataclass
class ConsecutiveExits(ExitPolicy):
    """Base of the rules "t exits in a row below the threshold": the score is the largest of the last t evidences.

    It is infinite until there are t. A subclass gives `evidence`.

    Args:
        threshold: On the evidence, in [0, 1].
        patience: t, at least 1.
        patience_grid: Values of t to choose from on validation data, by the area under the curve; empty: it stays.
    """

    patience: int = 2
    patience_grid: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.patience_grid = tuple(self.patience_grid)
        _check_patience(self, self.patience)
        for patience in self.patience_grid:
            _check_patience(self, patience, "patience_grid")

    def bind(self, model: MultiExitModel) -> Self:
        super().bind(model)
        self._exit_layers = model.exit_layers
        return self

    def fitted(self, record: ExitRecord) -> Self:
        if not self.patience_grid:
            return self

        def area(patience: int) -> float:
            one = replace(self, patience=patience)
            answers = one.answers(record.logits)
            answered = record if answers is None else replace(record, logits=answers)
            return area_of_scores(answered, one.score_record(record), self._exit_layers, self.regression is True)

        return replace(self, patience=max(self.patience_grid, key=area))  # of equals the first

    @abstractmethod
    def evidence(self, logits: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """How unsure this exit is, (B,) (of several labels (B, C)), infinite where it cannot tell; and the `memory`."""

    def observe(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        window, memory = (None, None) if state is None else state
        value, memory = self.evidence(logits, memory)
        value = of_rows(value)
        if window is None:
            window = value.new_full((len(value), self.patience), math.inf)
        window = torch.cat([window[:, 1:], value.unsqueeze(1)], dim=1)
        return window.amax(1), (window, memory)


@dataclass
class PatientEntropy(ConsecutiveExits):
    """PCEE-BERT: leave when t exits in a row have a normalised entropy below the threshold (EXACT as a rule).

    The earliest exit is t. Source: Zhang et al., "PCEE-BERT: Accelerating BERT Inference via Patient and Confident
    Early Exiting", NAACL Findings 2022.

    Args:
        threshold: On the entropy, in [0, 1].
        patience: t, at least 1.
        patience_grid: Values of t to choose from on validation data, by the area under the curve; empty: it stays.
        average: Answer with the mean probabilities of the t confident exits and the one before them, as the released
            code can (`do_ensemble` 1; EXACT where a text leaves early). A text that runs to the last exit gets that
            exit's answer. The engine `predicted` computes one exit alone, and answers with it.
    """

    average: bool = False

    name = "pcee"
    regression = False

    def evidence(self, logits: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if not self.average:
            return normalised_entropy(logits), None
        now = logits.float().softmax(-1).unsqueeze(1)  # the last t + 1 exits' probabilities, (B, n, C)
        seen = now if memory is None else torch.cat([memory, now], dim=1)[:, -self.patience - 1 :]
        return normalised_entropy(logits), seen

    def answer(self, exit_index: int, logits: Tensor, state: Any = None) -> Tensor:
        return state[1].mean(1).clamp_min(TINY).log() if self.average else logits

    def answers(self, logits: Tensor) -> Tensor | None:
        if not self.average:
            return None
        probabilities = logits.float().softmax(-1)
        windows = (probabilities[max(0, index - self.patience) : index + 1] for index in range(len(logits) - 1))
        return torch.stack([*(window.mean(0).clamp_min(TINY).log() for window in windows), logits[-1]])


@dataclass
class FPABEE(ConsecutiveExits):
    """F-PABEE: leave when t times in a row a score of an exit's distribution p and the one before, q, is below delta.

    The authors' score, in their equations and code, is H((p + q) / 2), the entropy of the mean, here over ln C. It is
    not the divergence of which their text speaks: an undecided text that never changes has the score 1, and a
    divergence of 0. The earliest exit is t + 1. Source: Gao et al., "F-PABEE", ICASSP 2023, arXiv 2305.11916.

    Args:
        threshold: On the score, in [0, 1]; delta in nats is the threshold times ln C (`divergence`: times ln 2).
        patience: t, at least 1.
        patience_grid: Values of t to choose from on validation data, by the area under the curve; empty: it stays.
        measure: `mean_entropy` is the authors' score, `divergence` Jensen-Shannon's in bits, in [0, 1].
    """

    measure: Literal["mean_entropy", "divergence"] = "mean_entropy"

    name = "f_pabee"
    regression = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.measure not in ("mean_entropy", "divergence"):
            raise UserError(f"FPABEE: measure must be mean_entropy or divergence, got {self.measure!r}")

    def evidence(self, logits: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        probabilities = logits.float().softmax(-1)
        if memory is None:
            return probabilities.new_full((len(probabilities),), math.inf), probabilities
        score = mean_entropy if self.measure == "mean_entropy" else jensen_shannon
        return score(probabilities, memory), probabilities


@dataclass
class PatientDivergence(FPABEE):
    """`FPABEE` with the measure `divergence`: what mebert 0.1.0 called F-PABEE, and its files still mean."""

    measure: Literal["mean_entropy", "divergence"] = "divergence"


@dataclass
class ValueChange(ConsecutiveExits):
    """For regression: leave when the estimate has stopped moving from one exit to the next (`value_change`).

    PABEE's rule for regression: t changes in a row below the threshold. No sample leaves before exit t + 1.

    Args:
        threshold: On d / (1 + d), in [0, 1]; the distance d is in the unit of the labels.
        patience: t, at least 1.
    """

    patience: int = 1

    name = "change"
    regression = True

    def evidence(self, logits: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor | None]:
        values = logits.squeeze(-1).float()
        if memory is None:
            return torch.full_like(values, math.inf), values
        return value_change(values, memory), values


def _check_patience(policy: ExitPolicy, patience: int, name: str = "patience") -> None:
    if patience < 1:
        raise UserError(f"{type(policy).__name__}: {name} must be at least 1, got {patience}")
