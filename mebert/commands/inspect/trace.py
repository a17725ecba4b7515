"""All exits of a batch as tensors, and of one text in plain values: prediction, confidence, decision, cost so far.

Shapes: E exits, B texts, C classes, F features, M exits with prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mebert.calibration.costs import ExitCosts
from mebert.inference.stream import Text
from mebert.metrics.task import predictions_of, probabilities_of
from mebert.models.multi_exit import MultiExitModel
from mebert.models.windows import texts_of
from mebert.policies import ExitPolicy, FixedExit
from mebert.policies.uncertainty import distance_ratio, normalised_entropy, of_rows

if TYPE_CHECKING:
    from mebert.commands.inspect.source import Opened

Answer = str | float | tuple[str, ...]
"""The predicted label, in a regression the estimate, or the labels of a text that may have several."""

Decision = Literal["goes on", "leaves here", "not reached", "not asked"]


class ExitPass(NamedTuple):
    """Outputs of all exits for a batch, on the CPU, and what the policy makes of them."""

    logits: Tensor  # (E, B, C), or (E, B, C, 2)
    features: Tensor  # pooled, (E, B, F) float32
    scores: Tensor  # (E, B); lower is more confident
    asked: Tensor  # whether the policy is asked at each exit, (E,) bool; never at the last
    exits: Tensor  # 0-based exit that each text takes, (B,) int64
    distances: Tensor | None  # to the prototypes, (M, B, C)


@torch.inference_mode()
def run_exits(model: MultiExitModel, policy: ExitPolicy, inputs: dict[str, Tensor]) -> ExitPass:
    """Run all layers, then decide as the engines do: exits at which nobody may leave are not asked.

    `model` is the prepared copy, and `policy` bound to it, for the exits that the classifier takes.
    """
    outputs = model(**inputs)
    logits = outputs.logits.float().cpu()
    _, mask = texts_of(inputs)
    last = model.num_exits - 1
    asked = torch.tensor([index < last and policy.may_leave(index) for index in range(model.num_exits)])
    exits = torch.full((mask.shape[0],), last)
    state: Any = policy.start(mask)
    for index in range(last):
        if asked[index]:
            leave, state = policy.decide(index, outputs.logits[index], outputs.features[index], state)
            now = leave.cpu() & (exits == last)
            exits = torch.where(now, index, exits)
            logits[index, now] = policy.answer(index, outputs.logits[index], state).float().cpu()[now]
    bank = model.prototypes
    distances = None
    if bank is not None:
        distances = torch.stack([bank.distances(m, outputs.features[m]) for m in range(bank.num_networks)]).cpu()
    scores = policy.score_exits(outputs.logits, outputs.features, mask)
    return ExitPass(logits, outputs.features.float().cpu(), scores.float().cpu(), asked, exits, distances)


@dataclass(frozen=True)
class ExitStep:
    """One exit (numbered from 1) of a trace; None in a regression, or without prototypes, where that has no value.

    The `score` (lower is more confident) is infinite where the policy cannot decide yet, and None where there is
    nothing to decide: at the last exit, and with a fixed exit.
    """

    exit: int
    layer: int
    answer: Answer
    probabilities: dict[str, float]  # of each label; empty in a regression
    confidence: float | None  # probability of the answer, of several labels that of the least certain; None: regression
    entropy: float | None  # normalised, in [0, 1]; of several labels their mean
    distance: float | None  # to the prototype of the predicted label
    other_distance: float | None  # to the nearest other prototype
    ratio: float | None
    score: float | None
    decision: Decision  # `not reached` after the exit taken, `not asked` where the policy can let nobody leave
    gflops: float  # cost of leaving here, all that has run by then
    speedup_layers: float
    speedup_flops: float  # against the plain model


@dataclass(frozen=True)
class TextTrace:
    """A text's way through the exits."""

    text: Text
    input_ids: list[int]  # special ones included, truncated to what the model reads
    steps: list[ExitStep]  # all exits, also those after the one taken
    exit: int  # the one taken, from 1
    features: Tensor  # pooled, (E, 1, F)

    @property
    def taken(self) -> ExitStep:
        return self.steps[self.exit - 1]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; infinity is null."""
        steps = [dict(vars(step)) for step in self.steps]
        for step in steps:
            step["score"] = None if step["score"] == math.inf else step["score"]
        return {
            "text": self.text,
            "tokens": len(self.input_ids),
            "answer": self.taken.answer,
            "exit": self.exit,
            "exits": steps,
        }


def trace_texts(opened: Opened, policy: ExitPolicy, texts: Sequence[Text]) -> list[TextTrace]:
    """Each text by itself through all exits, as the classifier runs it."""
    return [_trace(opened, policy, text) for text in texts]


def _trace(opened: Opened, policy: ExitPolicy, text: Text) -> TextTrace:
    classifier, model = opened.classifier, opened.model
    encoder = classifier.text_encoder()
    rows = encoder.encode([text])
    outputs = run_exits(classifier.model, policy, encoder.collate(rows, np.zeros(1, dtype=np.int64)))
    ids = rows["input_ids"][0]
    # Of the model that was trained: fused copies count the same work differently. With a fixed exit, or a policy that
    # lets nobody leave, only the head of the exit taken is run.
    costs, fixed = ExitCosts(model, torch.tensor([len(ids)])), isinstance(policy, FixedExit)
    flops = costs.direct() if fixed or not outputs.asked.any() else costs.sequential(policy)
    taken, names = int(outputs.exits[0]), model.label_names
    steps = []
    for index, layer in enumerate(model.exit_layers):
        logits, cost = outputs.logits[index], float(flops[index, 0])
        predicted = predictions_of(logits)
        shares = probabilities_of(logits, model.problem_type)[0].tolist() if len(names) > 1 else []
        sure = logits.softmax(-1).amax(-1).flatten()
        distance = other = ratio = None
        if outputs.distances is not None and index < len(outputs.distances):
            ratio = float(distance_ratio(outputs.distances[index], predicted)[0])
            distances = outputs.distances[index, 0].tolist()
            distance, other = distances.pop(int(predicted)), min(distances)
        before: Decision = "goes on" if outputs.asked[index] else "not asked"
        steps.append(
            ExitStep(
                exit=index + 1,
                layer=layer,
                answer=_answer(names, predicted[0]),
                probabilities=dict(zip(names, shares, strict=False)),
                confidence=float(sure.amin()) if shares else None,
                entropy=float(of_rows(normalised_entropy(logits))[0]) if shares else None,
                distance=distance,
                other_distance=other,
                ratio=ratio,
                score=None if fixed or index == model.num_exits - 1 else float(outputs.scores[index, 0]),
                decision="not reached" if index > taken else "leaves here" if index == taken else before,
                gflops=cost / 1e9,
                speedup_layers=model.exit_layers[-1] / layer,
                speedup_flops=float(costs.plain) / cost,
            )
        )
    return TextTrace(text, ids, steps, taken + 1, outputs.features)


def _answer(names: Sequence[str], predicted: Tensor) -> Answer:
    """The answer of a text's prediction: a class number, an estimate, or 0 and 1 for each label (C,)."""
    if predicted.ndim:
        return tuple(name for name, chosen in zip(names, predicted.tolist(), strict=True) if chosen)
    return names[int(predicted)] if len(names) > 1 else float(predicted)


def shorten(text: Text, limit: int = 200) -> str:
    """A text, or a pair with a bar between its parts, in one printable line of at most `limit` characters."""
    whole = " | ".join(text) if isinstance(text, tuple) else text
    words = "".join(c for c in " ".join(whole.split()) if c.isprintable())  # no control characters for the terminal
    return words if len(words) <= limit else words[: limit - 1] + "…"
