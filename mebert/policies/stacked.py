"""Several indicators, weighted by a logistic model (E exits, K indicators, N samples of a recorded pass)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.models.exit_scorer import fit_logistic
from mebert.policies.base import ExitPolicy, recorded
from mebert.policies.distance import DistanceRatio
from mebert.policies.uncertainty import jensen_shannon, normalised_entropy
from mebert.policies.voting import Voting

if TYPE_CHECKING:
    from mebert.metrics.curve import ExitRecord
    from mebert.models.multi_exit import MultiExitModel


@dataclass
class Stacked(ExitPolicy):
    """Leave when sigmoid(w_i x_i + b_i), the chance that the last exit would put exit i right, is below the threshold.

    x_i holds the log-odds of the normalised entropy, the votes against this prediction (`Voting`), the divergence from
    the exit before (0 at the first), the logarithm of the text's length over the usual one and, where the model has
    prototypes, the log-odds of the distance ratio. One logistic model an exit is fitted on validation data
    (`fit_logistic`) to "wrong here and right at the end", since a text that is never put right gains nothing by
    staying. Ours. Until it is fitted the score is the normalised entropy.

    Args:
        threshold: On that chance, in [0, 1].
        weights: w_i and b_i of every exit, (E, K + 1), the bias last; empty: not fitted yet.
        usual_length: The geometric mean of the fitted texts' lengths, in tokens; that of a text of unknown length.
    """

    weights: tuple[tuple[float, ...], ...] = ()
    usual_length: float = 1.0

    name = "stacked"
    regression = False
    multi_label = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.weights = tuple(tuple(float(value) for value in row) for row in self.weights)
        if len({len(row) for row in self.weights}) > 1:
            raise UserError(f"Stacked: weights must be as many at each exit, got {[len(row) for row in self.weights]}")
        if not 0 < self.usual_length < math.inf:
            raise UserError(f"Stacked: usual_length must be above 0, got {self.usual_length}")

    def bind(self, model: MultiExitModel) -> Self:
        super().bind(model)
        self._dr = None if model.prototypes is None else DistanceRatio().bind(model)
        shape, wanted = (len(self.weights), len((*self.weights, ())[0])), (model.num_exits, self._indicators + 1)
        if self.weights and shape != wanted:
            raise UserError(
                f"Stacked: weights of shape {shape}, but for the exits and indicators of this model it must be "
                f"{wanted}; leave weights out, and validation data will give them"
            )
        return self

    @property
    def _distance(self) -> DistanceRatio | None:
        return getattr(self, "_dr", None)

    @property
    def _indicators(self) -> int:
        return 4 if self._distance is None else 5

    def fitted(self, record: ExitRecord) -> Self:
        known = record.labels >= 0
        usual = float(record.lengths[known].double().log().mean().exp()) if bool(known.any()) else 1.0
        wrong = record.logits.argmax(-1) != record.labels
        x = torch.stack([torch.stack(columns, dim=-1) for columns in self._recorded(record, usual)])[:, known]
        weights = _fit_standardised(x, (wrong & ~wrong[-1])[:, known])
        return replace(self, weights=tuple(map(tuple, weights.tolist())), usual_length=usual)

    def score_record(self, record: ExitRecord) -> Tensor:
        return torch.stack([self._weigh(index, x) for index, x in enumerate(self._recorded(record, self.usual_length))])

    def start(self, attention_mask: Tensor) -> Any:
        return _start(attention_mask.sum(1), self.usual_length)

    def observe(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        indicators, state = _from_logits(logits, exit_index, state)
        if self._distance is not None:
            indicators.append(_log_odds(self._distance.score(exit_index, logits, features)))
        return self._weigh(exit_index, indicators), state

    def flops(self) -> int:
        return 2 * self._indicators + (0 if self._distance is None else self._distance.flops())

    def _recorded(self, record: ExitRecord, usual_length: float) -> list[list[Tensor]]:
        """The indicators, each (N,), of every exit of a recorded pass."""
        state = _start(record.lengths, usual_length)
        found = []
        for index, logits in enumerate(record.logits):
            indicators, state = _from_logits(logits, index, state)
            if self._distance is not None:
                indicators.append(_log_odds(recorded(record, self.name, "dr")[index]))
            found.append(indicators)
        return found

    def _weigh(self, exit_index: int, indicators: Sequence[Tensor]) -> Tensor:
        if not self.weights:
            return indicators[0].sigmoid()
        *weights, bias = self.weights[exit_index]
        # Plain numbers: weights in a tensor would have to be on the device that the model happens to be on.
        total = torch.full_like(indicators[0], bias)
        for weight, value in zip(weights, indicators, strict=True):
            total = torch.add(total, value, alpha=weight)
        return total.sigmoid()


def _from_logits(logits: Tensor, exit_index: int, state: Any) -> tuple[list[Tensor], Any]:
    """The indicators (n,) that logits (n, C) give, and what the next exit must remember."""
    votes, before, length = (None, None, None) if state is None else state
    against, votes = Voting().observe(exit_index, logits, logits, votes)
    probabilities = logits.float().softmax(-1)
    moved = torch.zeros_like(against) if before is None else jensen_shannon(probabilities, before)
    length = torch.zeros_like(against) if length is None else length
    return [_log_odds(normalised_entropy(logits)), against, moved, length], (votes, probabilities, length)


def _log_odds(score: Tensor) -> Tensor:
    """ln(s / (1 - s)) of scores (n,) in [0, 1], within ±9.2: near 0 and 1 small differences count."""
    return score.float().clamp(1e-4, 1 - 1e-4).logit()


def _fit_standardised(x: Tensor, targets: Tensor) -> Tensor:
    """`fit_logistic` on indicators (E, N, K) brought to mean 0 and deviation 1, as weights (E, K + 1) on x itself.

    Distance ratios in many dimensions are all near 1/2: without this the penalty would keep their weight at nothing.
    """
    mean, deviation = x.mean(1), x.std(1, correction=0).clamp_min(1e-6)
    fitted = fit_logistic((x - mean.unsqueeze(1)) / deviation.unsqueeze(1), targets)
    weights = fitted[:, :-1] / deviation
    return torch.cat([weights, fitted[:, -1:] - (weights * mean).sum(1, keepdim=True)], dim=1)


def _start(lengths: Tensor, usual_length: float) -> tuple[None, None, Tensor]:
    """No votes and no exit before, and ln(length / usual length), (n,) float32."""
    return None, None, (lengths.float().clamp_min(1) / usual_length).log()
