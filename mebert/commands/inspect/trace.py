"""One text, exit by exit: prediction, confidence, the policy's decision and the cost so far.

Shapes: E exits, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from mebert.commands.inspect.exit_pass import ExitPass, run_exits
from mebert.inference.stream import Text, TextEncoder
from mebert.models.flops import direct_exit_flops, exit_flops, single_exit_flops
from mebert.policies import ExitPolicy, FixedExit

if TYPE_CHECKING:
    from mebert.commands.inspect.source import Opened

__all__ = ["Decision", "ExitStep", "TextTrace", "shorten", "trace_texts"]

Decision = Literal["goes on", "leaves here", "not reached", "not asked"]


@dataclass(frozen=True)
class ExitStep:
    """One exit of a trace.

    Attributes:
        exit: Number of the exit, from 1.
        layer: Its layer, from 1.
        answer: The predicted label, or in a regression the estimate.
        probabilities: Of each label; empty in a regression.
        entropy: Normalised, in [0, 1]; None in a regression.
        distance: To the prototype of the predicted label; None without prototypes, as the next two.
        other_distance: To the nearest prototype of another label.
        ratio: The distance ratio, in [0, 1].
        score: The policy's, lower is more confident; infinite where it cannot decide yet. None where there is nothing
            to decide: at the last exit, and with a fixed exit.
        decision: `not reached` after the exit taken, `not asked` where the policy can let nobody leave.
        gflops: Cost of leaving here, all that has run by then.
        speedup_layers: Of leaving here, against all layers.
        speedup_flops: Of leaving here, in FLOPs against the plain model.
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
        """Probability of the predicted label; None in a regression."""
        return max(self.probabilities.values(), default=None)


@dataclass(frozen=True)
class TextTrace:
    """A text's way through the exits.

    Attributes:
        text: The text, or a pair.
        input_ids: Its tokens, special ones included, truncated to what the model reads.
        steps: One for each exit, also those after the exit taken.
        exit: The exit taken, from 1.
        outputs: The same as tensors, for a batch of one.
    """

    text: Text
    input_ids: list[int]
    steps: list[ExitStep]
    exit: int
    outputs: ExitPass

    @property
    def taken(self) -> ExitStep:
        """The exit that the text takes."""
        return self.steps[self.exit - 1]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; infinity is null."""
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
        policy: From `opened.classifier.choose_policy`.
        texts: Texts and pairs.
    """
    return [_trace(opened, policy, text) for text in texts]


def _trace(opened: Opened, policy: ExitPolicy, text: Text) -> TextTrace:
    classifier, model = opened.classifier, opened.model
    encoder = TextEncoder(classifier.tokenizer, opened.max_length, classifier.device)
    rows = encoder.encode([text])
    outputs = run_exits(classifier.model, policy, encoder.collate(rows, np.zeros(1, dtype=np.int64)))
    ids = rows["input_ids"][0]
    costs, plain = _flops(model, policy, len(ids))
    taken, names = int(outputs.exits[0]), model.label_names
    steps = []
    for index, layer in enumerate(model.exit_layers):
        predicted = outputs.predictions[index, 0].item()
        shares = outputs.logits[index, 0].softmax(-1).tolist() if len(names) > 1 else []
        distance = other = ratio = None
        if outputs.distances is not None and outputs.ratios is not None and index < len(outputs.distances):
            distances = outputs.distances[index, 0].tolist()
            distance, ratio = distances.pop(int(predicted)), float(outputs.ratios[index, 0])
            other = min(distances)
        undecided = index == model.num_exits - 1 or isinstance(policy, FixedExit)
        before: Decision = "goes on" if outputs.asked[index] else "not asked"
        steps.append(
            ExitStep(
                exit=index + 1,
                layer=layer,
                answer=names[int(predicted)] if shares else float(predicted),
                probabilities=dict(zip(names, shares, strict=False)),
                entropy=float(outputs.entropies[index, 0]) if shares else None,
                distance=distance,
                other_distance=other,
                ratio=ratio,
                score=None if undecided else float(outputs.scores[index, 0]),
                decision="not reached" if index > taken else "leaves here" if index == taken else before,
                gflops=costs[index] / 1e9,
                speedup_layers=model.exit_layers[-1] / layer,
                speedup_flops=plain / costs[index],
            )
        )
    return TextTrace(text, ids, steps, taken + 1, outputs)


def _flops(model: Any, policy: ExitPolicy, tokens: int) -> tuple[list[float], float]:
    """FLOPs of leaving at each exit, (E,), and of the plain model (all layers and the last head alone).

    The model is the one that was trained: fused copies count the same work differently. With a fixed exit, or a policy
    that lets nobody leave, only the head of the exit taken is run.
    """
    lengths = torch.tensor([tokens])
    never = not any(policy.may_leave(index) for index in range(model.num_exits - 1))
    direct = never or isinstance(policy, FixedExit)
    flops = direct_exit_flops(model, lengths) if direct else exit_flops(model, lengths, policy)
    return flops[:, 0].tolist(), float(single_exit_flops(model, lengths)[0])


def shorten(text: Text, limit: int = 200) -> str:
    """A text, or a pair with a bar between its parts, in one printable line of at most `limit` characters."""
    whole = " | ".join(text) if isinstance(text, tuple) else text
    words = "".join(c for c in " ".join(whole.split()) if c.isprintable())  # no control characters for the terminal
    return words if len(words) <= limit else words[: limit - 1] + "…"
