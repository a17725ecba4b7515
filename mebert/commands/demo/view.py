"""What the page shows of a text's way through the exits, as HTML in which every text and label is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.commands.demo.speeds import Speed
from mebert.commands.inspect.trace import Answer, ExitStep, TextTrace, shorten
from mebert.storage.thresholds import threshold_at, threshold_text

if TYPE_CHECKING:
    from jinja2 import Template

SHOWN = 10  # labels with their probabilities
SECONDS = 1.5  # in which the last exit has lit up, however many there are
STEP = 0.3  # most seconds from one exit to the next


def render_answer(trace: TextTrace, speed: Speed, max_length: int) -> str:
    """A text's answer, the share of the layers that it took, and all exits."""
    taken, layers = trace.taken, trace.steps[-1].layer
    shares = sorted(taken.probabilities.items(), key=lambda item: -item[1])
    return _template().render(
        text=shorten(trace.text),
        tokens=len(trace.input_ids),
        cut=len(trace.input_ids) >= max_length,
        answer=_words(taken),
        confidence=taken.confidence,
        several=isinstance(taken.answer, tuple),
        exit=trace.exit,
        exits=len(trace.steps),
        layer=taken.layer,
        layers=layers,
        speedup=taken.speedup_layers,
        shares=shares[:SHOWN],
        more=len(shares[SHOWN:]),
        steps=[_row(step, trace, speed) for step in trace.steps],
        seconds=min(STEP, SECONDS / len(trace.steps)),
    )


def render_speed(speeds: Sequence[Speed], place: int) -> str:
    """The places of the slider, the one it is at, and what is expected of it."""
    point = speeds[place].point
    return _template("speed").render(
        marks=[speed.mark for speed in speeds],
        place=place,
        title=speeds[place].title,
        policy=point.policy,
        threshold=threshold_text(point.threshold),
        full=point.threshold == 0.0,
        expected=point.expected,
        few_rows="few rows" in point.as_lines(),
    )


def render_note(text: str) -> str:
    """A sentence instead of an answer."""
    return _template("note").render(text=text)


def _row(step: ExitStep, trace: TextTrace, speed: Speed) -> dict[str, Any]:
    state = "taken" if step.exit == trace.exit else "passed" if step.exit < trace.exit else "unreached"
    return {
        "exit": step.exit,
        "layer": step.layer,
        "state": state,
        "answer": _words(step),
        "confidence": step.confidence,
        "decision": _decision(step, speed, len(trace.steps)),
    }


def _decision(step: ExitStep, speed: Speed, last: int) -> str:
    """What the policy makes of an exit, in words."""
    if step.decision == "not reached":
        return "not run: would have answered this"
    if step.decision == "not asked":
        return "goes on: no text leaves here"
    if step.score is None:
        return "leaves here: it is the last exit" if step.exit == last else step.decision
    if step.score == math.inf:
        return "goes on: the policy cannot decide yet"
    limit = threshold_text(threshold_at(speed.policy.threshold, step.exit - 1))
    sign = "<" if step.decision == "leaves here" else "≥"
    return f"{step.decision}: score {step.score:.4f} {sign} {limit}"


def _words(step: ExitStep) -> str:
    answer: Answer = step.answer
    if isinstance(answer, float):
        return f"{answer:.4f}"
    return (", ".join(answer) or "none of the labels") if isinstance(answer, tuple) else answer


@cache
def _template(name: str = "answer") -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, **options).get_template(
        f"{name}.html"
    )
