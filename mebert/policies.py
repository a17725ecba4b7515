"""When a sample leaves: exit policies, one protocol, vectorised over the batch.

Shapes: B batch, C classes, H hidden, E exits. A policy turns what an exit says into a score (lower is surer) and lets
a sample leave when its score is below the threshold. The same object drives the sweep over recorded scores and the
live engines, so both name the same exit. The last exit always leaves; that is the callers' part, not the policy's.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.indicators import distance_ratio, hybrid_indicator, normalised_entropy, value_change

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
    "ValueChange",
    "distance_ratio",
    "hybrid_indicator",
    "normalised_entropy",
    "policy_by_name",
    "policy_from_spec",
]


@dataclass
class ExitPolicy:
    """A rule that says when a sample leaves.

    To add one, subclass (as a dataclass), give `score`, and name it by `class_path`. A policy that needs more than
    this exit's own outputs overrides `decide`, carrying its `state` from exit to exit, and `score_exits`.

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

    def score_exits(self, logits: Tensor, features: Tensor) -> Tensor:
        """The scores of all exits, (E, B) float32, as `decide` would see them exit by exit.

        Args:
            logits: (E, B, C).
            features: (E, B, H).
        """
        return torch.stack([self.score(e, logits[e], features[e]).float() for e in range(logits.shape[0])])

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

    def may_leave(self, exit_index: int) -> bool:
        """Whether `decide` has to be asked at this exit; where not, an engine need not compute the exit at all.

        A policy that overrides `decide` is asked everywhere, unless it overrides this, too.

        Args:
            exit_index: 0-based.
        """
        return self.threshold > 0.0 or type(self).decide is not ExitPolicy.decide

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
    """Every sample leaves at the same exit: the first layers alone.

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

    def may_leave(self, exit_index: int) -> bool:
        return exit_index + 1 >= self.exit

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        leave = torch.full((logits.shape[0],), exit_index + 1 >= self.exit, device=logits.device)
        return leave, state


@dataclass
class ValueChange(ExitPolicy):
    """For regression: leave when the estimate has stopped moving from one exit to the next (`value_change`).

    Nobody leaves at the first exit, which has none before it: its score is infinite.

    Args:
        threshold: On d / (1 + d), in [0, 1]; the distance d is in the unit of the labels.
    """

    name = "change"

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        raise TypeError("ValueChange compares two exits: use score_exits, or decide with its state")

    def score_exits(self, logits: Tensor, features: Tensor) -> Tensor:
        values = logits.squeeze(-1).float()
        never = torch.full_like(values[:1], float("inf"))
        return torch.cat([never, value_change(values[1:], values[:-1])])

    def may_leave(self, exit_index: int) -> bool:
        return self.threshold > 0.0  # the first exit, where nobody leaves, has to be remembered

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        values = logits.squeeze(-1).float()
        if state is None:
            return torch.zeros_like(values, dtype=torch.bool), values
        return value_change(values, state) < self.threshold, values


def policy_by_name(name: str) -> type[ExitPolicy]:
    """The class of the policy with this `name`, one of ours or of an imported subclass.

    Raises:
        UserError: There is none; the text lists those that there are.
    """
    found: dict[str, type[ExitPolicy]] = {}
    left: list[type[ExitPolicy]] = ExitPolicy.__subclasses__()
    while left:
        policy = left.pop()
        found.setdefault(policy.name, policy)
        left += policy.__subclasses__()
    if name not in found:
        raise UserError(f"policy {name!r} is not known; choose one of: {', '.join(sorted(found))}")
    return found[name]


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
