"""Everything that was found about a model and some texts, and the colours in which every output shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mebert.commands.inspect.samples import Samples
from mebert.commands.inspect.source import Opened
from mebert.commands.inspect.spaces import ExitSpace
from mebert.commands.inspect.tokens import TokenView
from mebert.commands.inspect.trace import TextTrace
from mebert.policies import ExitPolicy, FixedExit
from mebert.report.page import Style, styles
from mebert.storage.operating_point import OperatingPoint
from mebert.storage.thresholds import threshold_text

# Of ColorBrewer's YlGnBu (Brewer 2003) what shows on white, also to the colour-blind. Early exits are light.
STEPS = ("c7e9b4", "7fcdbb", "41b6c4", "1d91c0", "225ea8", "0c2c84")

UNGROUPED = "#9a9a9a"  # of rows with several labels, or none

STAR = "#F0E442"  # of inspected texts; drawn with a black edge

# plotly's markers as characters, for a legend in words.
GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "triangle-down": "▼"}
GLYPHS |= {"cross": "✚", "x": "✖", "star": "★"}


@dataclass
class Inspection:
    """The content of every output of `inspect`."""

    opened: Opened
    policy: ExitPolicy
    point: OperatingPoint  # that of the policy
    traces: list[TextTrace]
    views: list[TokenView | None]
    samples: Samples | None = None
    spaces: list[ExitSpace] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    next: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.label_names = self.opened.model.label_names
        self.regression = self.opened.model.num_labels == 1
        self.multi_label = self.opened.model.multi_label

    @property
    def heading(self) -> str:
        """Model and policy in one line."""
        model = self.opened.model
        rule = f"policy {self.policy.name}, threshold {threshold_text(self.policy.threshold)}"
        if isinstance(self.policy, FixedExit):
            rule = f"all texts leave at exit {self.policy.exit}"
        return (
            f"{model.num_exits} exits on {model.exit_layers[-1]} layers, {model.num_labels} label"
            f"{'s' * (model.num_labels != 1)}; {rule} ({self.opened.classifier.precision})"
        )

    @property
    def shown_rows(self) -> str:
        """The rows in the spaces, in words."""
        return "the inspected texts alone" if self.samples is None else self.samples.what

    @property
    def mark_kinds(self) -> str:
        """What the large crosses are, in words; empty where there are none."""
        there = {space.mark_kind for space in self.spaces}
        return " or ".join(kind for kind in ("prototypes", "class means") if kind in there)

    @property
    def class_styles(self) -> list[Style]:
        """Colour and marker of each class."""
        return list(styles(range(len(self.label_names))).values())

    @property
    def class_legend(self) -> dict[str, Style]:
        """The classes that a picture of the spaces shows, by name; none in a regression."""
        shown = not self.regression and (self.samples is not None or any(space.mark_labels for space in self.spaces))
        return dict(zip(self.label_names, self.class_styles, strict=True)) if shown else {}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names, samples, rows = self.label_names, None, self.samples
        if rows is not None:
            gold = rows.labels.tolist()
            labels = gold if self.regression else [label_of(names, label) for label in gold]
            samples = {"what": rows.what, "texts": rows.texts, "labels": labels, "exits": (rows.exits + 1).tolist()}
        spaces = []
        for space in self.spaces:
            tensors = {name: getattr(space, name).tolist() for name in ("points", "marks", "texts")}
            spaces.append({**vars(space), **tensors, "mark_labels": [names[label] for label in space.mark_labels]})
        return {
            "model": self.opened.name,
            "label_names": names,
            "exit_layers": list(self.opened.model.exit_layers),
            "policy": {"name": self.policy.name, "threshold": self.policy.threshold},
            "operating_point": self.point.as_lines(),
            "precision": self.opened.classifier.precision,
            "texts": [
                {**trace.as_dict(), "predicted": None if view is None else asdict(view)}
                for trace, view in zip(self.traces, self.views, strict=True)
            ],
            "samples": samples,
            "spaces": spaces,
            "notes": self.notes,
        }


def label_of(names: Sequence[str], found: int | Sequence[int]) -> str | tuple[str, ...]:
    """The name of a class, or of each label that a row has (0 or 1 for each)."""
    if isinstance(found, int):
        return names[found]
    return tuple(name for name, has in zip(names, found, strict=True) if has)


def layer_colours(index: int, count: int) -> tuple[str, str]:
    """Background and ink (`#rrggbb`) of a 0-based exit of several in their order, readable on any page."""
    place = (len(STEPS) - 1) * (index / (count - 1) if count > 1 else 0.0)
    low = min(int(place), len(STEPS) - 2)
    share = place - low
    ends = zip(bytes.fromhex(STEPS[low]), bytes.fromhex(STEPS[low + 1]), strict=True)
    rgb = [round((1 - share) * a + share * b) for a, b in ends]
    # Relative luminance (WCAG 2): below 0.18 white is the ink with more contrast, above it black.
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#{:02x}{:02x}{:02x}".format(*rgb), "#000000" if luminance > 0.18 else "#ffffff"
