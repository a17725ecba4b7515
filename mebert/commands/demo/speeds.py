"""The speeds of the slider: a policy at each threshold that is stored with a model, the slowest first."""

from __future__ import annotations

from dataclasses import dataclass

from mebert.inference.classifier import EarlyExitClassifier
from mebert.policies import ExitPolicy
from mebert.storage.operating_point import OperatingPoint
from mebert.storage.thresholds import Threshold, numbers_of

DEFAULT = "default"


@dataclass(frozen=True)
class Speed:
    """A place of the slider."""

    names: tuple[str, ...]  # of the settings that mean it: `full depth`, `2x`, `max_drop 0.005`, `default`
    policy: ExitPolicy  # bound to the classifier's model
    point: OperatingPoint

    @property
    def title(self) -> str:
        """What it is, in words."""
        return ", ".join(map(_in_words, self.names))

    @property
    def mark(self) -> str:
        """What stands at its place of the slider: the speed-up by layers."""
        stored = next((name for name in self.names if name.endswith("x")), "?")
        expected = self.point.expected
        if self.point.threshold == 0.0:
            return "1x"
        return stored if expected is None else f"{expected.speedup:.2g}x"


def stored_speeds(classifier: EarlyExitClassifier, policy: str | None = None) -> list[Speed]:
    """Full depth, what `fit` and `calibrate` stored, and the default point; settings of one threshold are one speed.

    Raises:
        UserError: The model has no policy and none is named, or there is no such policy.
    """
    full = classifier.choose_policy(policy, speedup=1.0)
    asked: dict[str, dict[str, float]] = {"full depth": {"speedup": 1.0}}
    asked |= {f"{number:g}x": {"speedup": number} for number in classifier.operating_points.get(full.name, {})}
    asked |= {f"max_drop {number:g}": {"max_drop": number} for number in classifier.max_drops.get(full.name, {})}
    if classifier.policy is not None and classifier.policy.name == full.name:
        asked[DEFAULT] = {}
    found: dict[Threshold, list[str]] = {}
    for name, numbers in asked.items():
        found.setdefault(classifier.choose_policy(policy, **numbers).threshold, []).append(name)
    speeds = []
    for names in found.values():
        numbers = asked[names[-1]]
        chosen, point = classifier.choose_policy(policy, **numbers), classifier.point_of(policy, **numbers)
        speeds.append(Speed(tuple(names), chosen, point))
    if any(isinstance(threshold, tuple) for threshold in found):  # one for each exit: they have no order of their own
        return sorted(speeds, key=_by_layers)
    return sorted(speeds, key=lambda speed: numbers_of(speed.policy.threshold))  # at a higher one no text leaves later


def _by_layers(speed: Speed) -> float:
    """The speed-up that validation data expect, else the one that it is stored for; 1 where neither is known."""
    if speed.point.expected is not None:
        return float(speed.point.expected.speedup)
    return max((float(name[:-1]) for name in speed.names if name.endswith("x")), default=1.0)


def _in_words(name: str) -> str:
    if name.startswith("max_drop "):
        return f"for a loss of at most {name.removeprefix('max_drop ')}"
    return f"stored for {name}" if name.endswith("x") else "the model's default" if name == DEFAULT else name
