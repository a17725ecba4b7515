"""One text, exit by exit: what each exit says, how sure it is, what the policy decides, what it has cost.

Shapes: E exits, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from mebert.commands.inspect.walk import Walk, costs_of, walk_exits
from mebert.inference.stream import Text, TextEncoder
from mebert.policies import ExitPolicy, FixedExit

if TYPE_CHECKING:
    from mebert.commands.inspect.source import Opened

__all__ = ["Decision", "ExitStep", "TextTrace", "shown_text", "trace_texts"]

Decision = Literal["goes on", "leaves here", "not reached", "not asked"]


@dataclass(frozen=True)
class ExitStep:
    """One exit's part of a trace.

    Attributes:
        exit: Number of the exit, from 1.
        layer: Its layer, from 1.
        answer: The label, or in a regression the estimate.
        probabilities: Of each label; empty in a regression.
        entropy: Normalised, in [0, 1]; None in a regression.
        distance: To the prototype of the label that it says; None without prototypes, as the next two.
        other_distance: To the nearest prototype of another label.
        ratio: The distance ratio, in [0, 1].
        score: The policy's, lower is surer; infinite where it cannot tell yet. None where there is nothing to decide:
            at the last exit, and with a fixed exit.
        decision: `not reached` after the exit taken, `not asked` where the policy can let nobody go.
        gflops: Cost of leaving here.
        speedup_layers: Of leaving here, against all layers.
        speedup_flops: Likewise by FLOPs, against the plain model.
    """

    exit: int
    layer: int
    answer: str | float
    probabilities: dict[str, float]
    entropy: float | None
    distance: float | None
    other_distance: float | None
    ratio: float | None
    score: float | None
    decision: Decision
    gflops: float
    speedup_layers: float
    speedup_flops: float

    @property
    def confidence(self) -> float | None:
        """Probability of the label that it says; None in a regression."""
        return max(self.probabilities.values()) if self.probabilities else None


@dataclass(frozen=True)
class TextTrace:
    """A text's way through the exits.

    Attributes:
        text: The text, or a pair.
        input_ids: Its tokens, special ones included, cut to what the model reads.
        steps: One an exit, also those after the exit taken.
        exit: The exit taken, from 1.
        walk: All of it as tensors, for a batch of one.
    """

    text: Text
    input_ids: list[int]
    steps: list[ExitStep]
    exit: int
    walk: Walk

    @property
    def taken(self) -> ExitStep:
        """The exit that the text takes."""
        return self.steps[self.exit - 1]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which knows no infinity."""
        steps = []
        for step in self.steps:
            values = {**vars(step), "confidence": step.confidence}
            infinite = [name for name, value in values.items() if isinstance(value, float) and math.isinf(value)]
            steps.append(values | dict.fromkeys(infinite))
        return {
            "text": list(self.text) if isinstance(self.text, tuple) else self.text,
            "tokens": len(self.input_ids),
            "answer": self.taken.answer,
            "exit": self.exit,
            "exits": steps,
        }


def trace_texts(opened: Opened, policy: ExitPolicy, texts: Sequence[Text]) -> list[TextTrace]:
    """Each text by itself through all exits, as the classifier runs it.

    Args:
        opened: The model.
        policy: What `opened.classifier.choose_policy` gave.
        texts: Texts and pairs.
    """
    return [_trace(opened, policy, text) for text in texts]


def _trace(opened: Opened, policy: ExitPolicy, text: Text) -> TextTrace:
    classifier, model = opened.classifier, opened.model
    encoder = TextEncoder(classifier.tokenizer, opened.max_length, classifier.device)
    rows = encoder.encode([text])
    walk = walk_exits(classifier.model, policy, encoder.collate(rows, np.zeros(1, dtype=np.int64)))
    ids = rows["input_ids"][0]
    costs = costs_of(model, policy, len(ids))
    taken, ratios = int(walk.exits[0]), walk.ratios
    steps = []
    for index, layer in enumerate(model.exit_layers):
        answer, probabilities, entropy = _said(model.label_names, walk, index)
        distance = other = ratio = None
        if walk.distances is not None and ratios is not None and index < len(walk.distances):
            to_each = walk.distances[index, 0]
            said = int(walk.answers[index, 0])
            distance, ratio = float(to_each[said]), float(ratios[index, 0])
            other = float(torch.cat([to_each[:said], to_each[said + 1 :]]).min())
        undecided = index == model.num_exits - 1 or isinstance(policy, FixedExit)
        steps.append(
            ExitStep(
                exit=index + 1,
                layer=layer,
                answer=answer,
                probabilities=probabilities,
                entropy=entropy,
                distance=distance,
                other_distance=other,
                ratio=ratio,
                score=None if undecided else float(walk.scores[index, 0]),
                decision=_decision(index, taken, bool(walk.asked[index])),
                gflops=costs.gflops[index],
                speedup_layers=costs.speedup_layers[index],
                speedup_flops=costs.speedup_flops[index],
            )
        )
    return TextTrace(text, ids, steps, taken + 1, walk)


def _said(names: Sequence[str], walk: Walk, index: int) -> tuple[str | float, dict[str, float], float | None]:
    if len(names) == 1:
        return float(walk.answers[index, 0]), {}, None
    shares = walk.logits[index, 0].softmax(-1).tolist()
    probabilities = dict(zip(names, shares, strict=True))
    return names[int(walk.answers[index, 0])], probabilities, float(walk.entropies[index, 0])


def _decision(index: int, taken: int, asked: bool) -> Decision:
    if index > taken:
        return "not reached"
    if index == taken:
        return "leaves here"
    return "goes on" if asked else "not asked"


def shown_text(text: Text, limit: int = 200) -> str:
    """A text, or a pair with a bar between its parts, in one line and not too long."""
    whole = " | ".join(text) if isinstance(text, tuple) else text
    words = "".join(c for c in " ".join(whole.split()) if c.isprintable())  # nothing that a terminal would obey
    return words if len(words) <= limit else words[: limit - 1] + "…"
