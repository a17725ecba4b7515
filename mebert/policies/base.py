"""The protocol of exit policies, and how a policy is named in files.

Shapes: B batch, C classes, H hidden, E exits, N samples of a recorded pass. Where rows have several labels, logits are
(..., C, 2), for each label those of no and yes; a rule may then return a score of each label, (B, C), whose mean
counts.
"""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from mebert.errors import UserError, check_range
from mebert.policies.uncertainty import of_rows
from mebert.storage.thresholds import Threshold, as_threshold, check_exits, threshold_at
from mebert.storage.trusted_classes import class_path_of, instance_of, subclasses_of

if TYPE_CHECKING:
    from mebert.metrics.curve import ExitRecord
    from mebert.models.multi_exit import MultiExitModel

LOOSEST = float(np.nextafter(np.float32(1), np.float32(2)))
"""The threshold at which every sample leaves that may: the number after 1, the highest finite score, in float32."""


@dataclass
class ExitPolicy(ABC):  # noqa: B024 - ABC: jsonargparse takes no subclass in the place of what is a dataclass only
    """A rule that says when a sample leaves.

    To add one, subclass (as a dataclass), give `score`, and name it by `class_path`. A policy that needs more than
    this exit's own outputs gives `observe` instead, which carries a `state` from exit to exit.

    Args:
        threshold: A sample leaves when its score is below it. Range [0, 1], and `LOOSEST`: 0 never leaves early. One
            number for all exits, or a list with one for each exit but the last.
    """

    threshold: float | tuple[float, ...] = 0.5

    name: ClassVar[str] = "policy"
    regression: ClassVar[bool | None] = None
    """Whether it reads estimates (true) or classes (false); None reads either."""
    multi_label: ClassVar[bool] = True
    """Whether it has a meaning where a row has several labels."""

    @property
    def needs_prototypes(self) -> bool:
        """Whether `bind` needs a model with prototypes; a recipe that trains none fits some to its training data."""
        return False

    @property
    def needs_exit_scorer(self) -> bool:
        """Whether `bind` needs a model with a learning-to-exit head; a recipe that trains none fits one."""
        return False

    def __post_init__(self) -> None:
        given: Any = self.threshold
        if isinstance(given, list | tuple) and not given:
            raise UserError(f"{type(self).__name__}: threshold is an empty list; give one for each exit but the last")
        for number in given if isinstance(given, list | tuple) else [given]:
            if number != LOOSEST:
                check_range(f"{type(self).__name__}: threshold", number, 0.0, 1.0)
        self.threshold = as_threshold(given)

    def bind(self, model: MultiExitModel) -> Self:
        """Take from the model what the rule needs (prototypes, say); returns itself.

        Raises:
            UserError: The rule is for classes and the model for regression, or the other way round; or the model lacks
                what the rule needs; or there are more or fewer thresholds than exits before the last.
        """
        check_exits(self.threshold, model.num_exits, f"{type(self).__name__}: threshold")
        if self.regression is not None and self.regression != (model.num_labels == 1):
            instead = "change" if model.num_labels == 1 else "entropy"
            raise UserError(
                f"the policy {self.name!r} does not fit a model with {model.num_labels} label(s); "
                f"choose another, for example {instead!r}"
            )
        if model.multi_label and not self.multi_label:
            raise UserError(
                f"the policy {self.name!r} reads the one class of a row, and here a row may have several labels; "
                "choose another, for example 'entropy'"
            )
        return self

    def fitted(self, record: ExitRecord) -> Self:
        """The policy with its settings besides the threshold chosen on a recorded pass over validation data."""
        return self

    def score_record(self, record: ExitRecord) -> Tensor:
        """The scores (E, N) of a recorded pass; a policy that reads features takes what it needs from its scores."""
        nothing = record.logits.new_zeros(*record.logits.shape[:2], 0)
        return self.score_exits(record.logits, nothing)

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        """How uncertain an exit (0-based) is of each sample, (B,) float32; lower is more confident.

        Args:
            exit_index: 0-based.
            logits: (B, C), or (B, C, 2).
            features: What the exit pooled, (B, H).
        """
        raise TypeError(f"{type(self).__name__} has no score of a single exit: it must define score or observe")

    def start(self, attention_mask: Tensor) -> Any:
        """The state before the first exit, for a policy that looks at the texts' mask (B, S) itself; None for most."""
        return None

    def observe(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The score (B,) in the light of the exits before, and the new state; arguments as of `decide`."""
        return self.score(exit_index, logits, features), state

    def score_exits(self, logits: Tensor, features: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The scores of all exits, (E, B) float32, of logits (E, B, C), features (E, B, H) and, for `start`, a mask."""
        state: Any = None if attention_mask is None else self.start(attention_mask)
        scores = []
        for exit_index, (exit_logits, feature) in enumerate(zip(logits, features, strict=True)):
            score, state = self.observe(exit_index, exit_logits, feature, state)
            scores.append(of_rows(score).float())
        return torch.stack(scores)

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Which samples leave here.

        Args:
            exit_index: 0-based.
            logits: (B, C).
            features: (B, H).
            state: What `decide` returned at the exit before for these samples; at the first exit what `start` gave, or
                None. A tensor or a tuple of tensors with B first: an engine filters it with the batch.

        Returns:
            leave (B,) bool, and the new state.
        """
        score, state = self.observe(exit_index, logits, features, state)
        return of_rows(score) < threshold_at(self.threshold, exit_index), state

    def answer(self, exit_index: int, logits: Tensor, state: Any = None) -> Tensor:
        """What samples answer that leave at this exit, as logits (B, C): of most rules the exit's own.

        Arguments as of `decide`, with the state that it returned. The last exit answers for itself.
        """
        return logits

    def answers(self, logits: Tensor) -> Tensor | None:
        """`answer` at every exit of a recorded pass (E, N, C), the last one's as they are; None: the exits' own."""
        return None

    def set_scores(self, record: ExitRecord) -> None:
        """Put the policy's scores into a recorded pass, and its answers where it has its own."""
        record.scores[self.name] = self.score_record(record)
        self.set_answers(record)

    def set_answers(self, record: ExitRecord) -> None:
        """Put the policy's answers into a recorded pass, where they are not the exits' own."""
        if (answers := self.answers(record.logits)) is not None:
            record.answers[self.name] = answers

    def may_leave(self, exit_index: int) -> bool:
        """Whether `decide` has to be asked at this exit (0-based); where not, an engine need not compute the exit.

        A policy that overrides `decide` is asked everywhere, unless it overrides this, too.
        """
        if type(self).decide is not ExitPolicy.decide:
            return True
        if isinstance(self.threshold, float) or type(self).observe is ExitPolicy.observe:
            return threshold_at(self.threshold, exit_index) > 0.0
        return any(self.threshold[exit_index:])  # what it remembers of this exit counts at later ones

    def flops(self) -> int:
        """Counted cost of one decision for one sample beyond the exit head, 2 x multiply-adds."""
        return 0

    def with_threshold(self, threshold: Threshold) -> Self:
        """The same policy, bound to the same model, at another threshold."""
        other = copy.copy(self)  # what `bind` took from the model goes along
        other.threshold = threshold
        other.__post_init__()
        return other

    def spec(self) -> dict[str, Any]:
        """Plain values from which `policy_from_spec` makes the policy again."""
        return {"class_path": class_path_of(type(self)), "init_args": asdict(self)}


def policy_by_name(name: str) -> type[ExitPolicy]:
    """The class of the policy with this `name`, one of ours or of an imported subclass; a UserError lists them."""
    # A base that several share has no name of its own.
    found = {policy.name: policy for policy in subclasses_of(ExitPolicy) if "name" in vars(policy)}
    if name not in found:
        raise UserError(f"policy {name!r} is not known; choose one of: {', '.join(sorted(found))}")
    return found[name]


def policy_from_spec(spec: Mapping[str, Any]) -> ExitPolicy:
    """The policy that `ExitPolicy.spec` described; not bound to a model yet.

    Raises:
        UserError: The class is not imported already, is no policy, or its settings do not fit.
    """
    path, given = spec.get("class_path", ""), spec.get("init_args", {})
    return instance_of(path, given, ExitPolicy, "the saved policy", "--model.policy")


def recorded(record: ExitRecord, policy: str, needed: str) -> Tensor:
    """Scores (E, N) that a pass has recorded and `policy` needs."""
    if needed not in record.scores:
        raise UserError(
            f"the policy {policy!r} needs the scores of {needed!r}, which this pass has not recorded "
            f"(recorded: {', '.join(record.scores) or 'none'})"
        )
    return record.scores[needed]
