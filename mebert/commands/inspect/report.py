"""Everything that was found about a model and some texts, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mebert.commands.inspect.samples import Samples
from mebert.commands.inspect.source import Opened
from mebert.commands.inspect.spaces import ExitSpace
from mebert.commands.inspect.tokens import TokenView
from mebert.commands.inspect.trace import TextTrace
from mebert.policies import ExitPolicy, FixedExit

__all__ = ["Inspection"]


@dataclass
class Inspection:
    """What `inspect` has to show.

    Attributes:
        opened: The model.
        policy: By which texts leave, at its threshold.
        traces: One an inspected text.
        views: What the exit predictor says of each, (texts,); None where there is none.
        samples: Rows to see the texts beside; None where there are none.
        spaces: One an exit; empty where no projection was asked for.
        notes: What a reader must know.
        next: What to type next, by what it is for.
    """

    opened: Opened
    policy: ExitPolicy
    traces: list[TextTrace]
    views: list[TokenView | None]
    samples: Samples | None = None
    spaces: list[ExitSpace] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    next: dict[str, str] = field(default_factory=dict)

    @property
    def label_names(self) -> list[str]:
        return self.opened.model.label_names

    @property
    def regression(self) -> bool:
        return self.opened.model.num_labels == 1

    @property
    def rule(self) -> str:
        """The policy in words."""
        if isinstance(self.policy, FixedExit):
            return f"all texts leave at exit {self.policy.exit}"
        return f"policy {self.policy.name}, threshold {self.policy.threshold:.4g}"

    @property
    def heading(self) -> str:
        """Model and policy in one line."""
        model = self.opened.model
        return (
            f"{model.num_exits} exits on {model.exit_layers[-1]} layers, {model.num_labels} label"
            f"{'s' * (model.num_labels != 1)}; {self.rule} ({self.opened.classifier.precision})"
        )

    @property
    def mark_kinds(self) -> str:
        """What the large crosses are, in words; empty where there are none."""
        there = {space.mark_kind for space in self.spaces}
        return " or ".join(kind for kind in ("prototypes", "class means") if kind in there)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        texts = []
        for trace, view in zip(self.traces, self.views, strict=True):
            texts.append({**trace.as_dict(), "predicted": None if view is None else view.as_dict()})
        return {
            "model": self.opened.name,
            "label_names": self.label_names,
            "exit_layers": list(self.opened.model.exit_layers),
            "policy": {"name": self.policy.name, "threshold": self.policy.threshold},
            "precision": self.opened.classifier.precision,
            "texts": texts,
            "samples": None if self.samples is None else self._samples_as_dict(self.samples),
            "spaces": [self._space_as_dict(space) for space in self.spaces],
            "notes": self.notes,
        }

    def _samples_as_dict(self, samples: Samples) -> dict[str, Any]:
        gold = samples.labels.tolist()
        return {
            "what": samples.what,
            "texts": [list(text) if isinstance(text, tuple) else text for text in samples.texts],
            "labels": gold if self.regression else [self.label_names[label] for label in gold],
            "exits": (samples.walk.exits + 1).tolist(),
        }

    def _space_as_dict(self, space: ExitSpace) -> dict[str, Any]:
        names = self.label_names
        tensors = {name: getattr(space, name).tolist() for name in ("points", "marks", "texts")}
        return {**vars(space), **tensors, "mark_labels": [names[label] for label in space.mark_labels]}
