"""When a sample leaves: exit policies, one protocol, vectorised over the batch.

Shapes: B batch, C classes, H hidden, E exits. A policy turns what an exit says into a score (lower is surer) and lets
a sample leave when its score is below the threshold. The same object drives the sweep over recorded scores and the
live engines, so both name the same exit. The last exit always leaves; that is the callers' part, not the policy's.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from mebert.errors import UserError

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel
    from mebert.models.prototypes import PrototypeBank

__all__ = [
    "DistanceRatio",
    "Entropy",
    "ExitPolicy",
    "FixedExit",
    "HybridDistanceEntropy",
    "MaxProbability",
    "distance_ratio",
    "hybrid_indicator",
    "normalised_entropy",
    "policy_from_spec",
]


def normalised_entropy(logits: Tensor) -> Tensor:
    """u(p) = H(p) / ln C of the softmax, in [0, 1]: 0 is certain, 1 is uniform.

    Computed from `log_softmax` in float32: finite for logits of any size, where sums of exponentials overflow and
    p log p of an underflowed p is NaN (and NaN < threshold is false, so that the surest samples would never leave).

    Args:
        logits: (..., C) with C at least 2.

    >>> normalised_entropy(torch.tensor([[0.0, 0.0], [1e4, -1e4]])).tolist()
    [1.0, 0.0]
    """
    log_p = logits.float().log_softmax(-1)
    plogp = torch.where(log_p > -80.0, log_p.exp() * log_p, 0.0)  # e^-80 * 80 is below float32's resolution of 1
    return (plogp.sum(-1).abs() / math.log(logits.shape[-1])).clamp_max(1.0)  # no term is above 0


def distance_ratio(distances: Tensor, predicted: Tensor) -> Tensor:
    """DR = 1/2 (1 + (r1 - r2) / max(r1, r2)), in [0, 1] (DE3-BERT; EXACT in form).

    r1 is the distance to the prototype of the class that the exit predicts and r2 the distance to the nearest other
    class's (which ones: RECONSTRUCTED). Small when the prediction sits among its own.

    Args:
        distances: (..., C), at least 0; infinite for a class without a prototype.
        predicted: (...) int64, the exit's predicted class.

    >>> distance_ratio(torch.tensor([[1.0, 4.0]]), torch.tensor([0])).tolist()
    [0.125]
    """
    r1 = distances.gather(-1, predicted.unsqueeze(-1)).squeeze(-1)
    others = distances.scatter(-1, predicted.unsqueeze(-1), float("inf"))
    r2 = others.amin(-1)
    largest = torch.maximum(r1, r2)
    ratio = torch.where(largest > 0, (r1 - r2) / largest, 0.0)
    # An infinite distance says "no such prototype": no evidence against (r2) or none in favour (r1).
    ratio = torch.where(torch.isinf(r2), -1.0, ratio)
    ratio = torch.where(torch.isinf(r1), 1.0, ratio)
    return 0.5 * (1.0 + ratio)


def hybrid_indicator(dr: Tensor, entropy: Tensor, lam: float) -> Tensor:
    """EDR = (lam + 1) / (lam / DR + 1 / u), in [0, 1] (DE3-BERT; EXACT).

    The weighted harmonic mean of the distance ratio and the normalised entropy: lam = 0 is pure entropy, a large lam
    tends to pure distance ratio; 0 where either is 0, the limit.

    Args:
        dr: Distance ratio, any shape, [0, 1].
        entropy: Normalised entropy, same shape, [0, 1].
        lam: Weight of the distance ratio, at least 0; infinity gives the distance ratio itself.

    >>> hybrid_indicator(torch.tensor([0.2]), torch.tensor([0.6]), 1.0)
    tensor([0.3000])
    """
    if lam == 0:
        return entropy
    if math.isinf(lam):
        return dr
    below = lam * entropy + dr
    return torch.where(below > 0, (lam + 1) * dr * entropy / below.clamp_min(1e-30), 0.0)


@dataclass
class ExitPolicy:
    """A rule that says when a sample leaves.

    To add one, subclass (as a dataclass), give `score`, and name it by `class_path`. A policy that needs more than
    this exit's own outputs overrides `decide` and carries its `state` from exit to exit.

    Args:
        threshold: A sample leaves when its score is below it. Range [0, 1]: 0 never leaves early.
    """

    threshold: float = 0.5

    name: ClassVar[str] = "policy"

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise UserError(f"{type(self).__name__}: threshold must be in [0, 1], got {self.threshold}")

    def bind(self, model: MultiExitModel) -> Self:
        """Take from the model what the rule needs (prototypes, say); returns itself."""
        return self

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        """How unsure an exit is of each sample, (B,) float32; lower is surer. Does not depend on the threshold.

        Args:
            exit_index: 0-based.
            logits: (B, C).
            features: What the exit pooled, (B, H).
        """
        raise TypeError(f"{type(self).__name__} must define score")

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Which samples leave here.

        Args:
            exit_index: 0-based.
            logits: (B, C).
            features: (B, H).
            state: What `decide` returned at the exit before for these same samples; None at the first exit. A tensor
                or a tuple of tensors with B first, so that an engine can filter it with the batch.

        Returns:
            leave (B,) bool, and the new state.
        """
        return self.score(exit_index, logits, features) < self.threshold, state

    def flops(self) -> int:
        """Counted cost of one decision for one sample beyond the exit head, 2 x multiply-adds."""
        return 0

    def with_threshold(self, threshold: float) -> Self:
        """The same policy, bound to the same model, at another threshold."""
        return replace(self, threshold=threshold)

    def spec(self) -> dict[str, Any]:
        """Plain values from which `policy_from_spec` makes the policy again."""
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": asdict(self)}


@dataclass
class Entropy(ExitPolicy):
    """Leave when the normalised entropy is below the threshold (FastBERT's "speed"; DeeBERT's rule in nats / ln C)."""

    name = "entropy"

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        return normalised_entropy(logits)


@dataclass
class MaxProbability(ExitPolicy):
    """Leave when 1 - max p is below the threshold: a threshold of 0.1 asks for a confidence above 0.9."""

    name = "max_prob"

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        return 1.0 - logits.float().softmax(-1).amax(-1)


@dataclass
class DistanceRatio(ExitPolicy):
    """Leave when the distance ratio to the prototypes is below the threshold (DE3-BERT's DR alone)."""

    name = "dr"

    def bind(self, model: MultiExitModel) -> Self:
        if model.prototypes is None:
            raise UserError(
                f"the policy {self.name!r} needs prototypes, and this model has none; "
                "train it with ProtoExitModule (prototypes: true) or choose another policy"
            )
        self._bank = model.prototypes
        return self

    @property
    def bank(self) -> PrototypeBank:
        bank: PrototypeBank | None = getattr(self, "_bank", None)
        if bank is None:
            raise UserError(f"the policy {self.name!r} is not bound to a model yet: call policy.bind(model)")
        return bank

    def with_threshold(self, threshold: float) -> Self:
        other = super().with_threshold(threshold)
        other._bank = self.bank
        return other

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        if exit_index >= self.bank.num_networks:  # the last exit has no prototypes, and needs none: it always leaves
            return torch.zeros(logits.shape[0], device=logits.device)
        return distance_ratio(self.bank.distances(exit_index, features), logits.argmax(-1))

    def flops(self) -> int:
        return self.bank.flops()


@dataclass
class HybridDistanceEntropy(DistanceRatio):
    """DE3-BERT's hybrid rule: leave when EDR is below the threshold.

    Args:
        threshold: On EDR, in [0, 1].
        lam: Weight of the distance ratio against the entropy, at least 0.
    """

    lam: float = 1.0

    name = "edr"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lam >= 0:
            raise UserError(f"{type(self).__name__}: lam must be at least 0, got {self.lam}")

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        dr = super().score(exit_index, logits, features)
        return hybrid_indicator(dr, normalised_entropy(logits), self.lam)


@dataclass
class FixedExit(ExitPolicy):
    """Every sample leaves at the same exit: the first layers alone. Also the one rule that fits regression.

    Args:
        threshold: Not used.
        exit: Exit number, from 1.
    """

    exit: int = 1

    name = "fixed"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exit < 1:
            raise UserError(f"FixedExit: exit must be at least 1, got {self.exit}")

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        value = 0.0 if exit_index + 1 >= self.exit else 1.0
        return torch.full((logits.shape[0],), value, device=logits.device)

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        leave = torch.full((logits.shape[0],), exit_index + 1 >= self.exit, device=logits.device)
        return leave, state


def policy_from_spec(spec: dict[str, Any]) -> ExitPolicy:
    """The policy that `ExitPolicy.spec` described; not bound to a model yet.

    A class is only looked up in modules that are imported already, so that no file can name code to be loaded.

    Raises:
        UserError: The class is unknown, is no policy, or its settings do not fit.
    """
    path = str(spec.get("class_path", ""))
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if not (isinstance(found, type) and issubclass(found, ExitPolicy)):
        raise UserError(f"the saved policy {path!r} is not an imported exit policy; import its module first")
    try:
        return found(**spec.get("init_args", {}))
    except TypeError as error:
        raise UserError(f"the saved policy {path!r} has settings that do not fit: {error}") from error
