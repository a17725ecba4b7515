"""One line: does early exit pay on this machine, and is that at an accuracy that holds?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

from mebert.commands.bench.accuracy import Accuracy
from mebert.commands.bench.results import Row, ratio

WORTH = 1.05  # a smaller gain is within the variation between machines and loads
ONE_ROUND = "(Of one round, which chance decides: give a larger --budget, or measure on an idle machine.)"

Accuracies = Mapping[tuple[str, float], Accuracy | None]
"""Policy and speed-up (`Row.target`) to what is known of the accuracy there."""


def verdict(rows: Sequence[Row], known: Accuracies | None = None, full_depth: str | None = None) -> str:
    """One line: does early exit pay here? That of a single round, which a busy machine can turn, says so.

    For each batch size, the fastest engine against the fastest whole model without exits, each in its best precision.
    Without trained exits (`known` is None) at the smallest speed-up above 1. Of a trained model at the fastest point
    whose accuracy holds, else at the slowest; int8, which changes the model's answers, and `predicted`, whose
    predictor is fitted to the texts that are measured, are left out where there are others. `full_depth` is what made
    the full depth the model's default operating point.
    """
    line = _verdict(rows, known, full_depth)
    return line if min(len(row.seconds) for row in rows) > 1 else f"{line} {ONE_ROUND}"


def _verdict(rows: Sequence[Row], known: Accuracies | None, full_depth: str | None) -> str:
    early = [row for row in rows if row.target is not None]
    if not early:
        return "No engine leaves early here: nothing to say about early exit."
    early = [row for row in early if row.target is not None and row.target > 1.0] or early  # 1x is the full depth
    if known is None:
        target = min(row.target for row in early if row.target is not None)
        gains, losses = _compared(rows, [row for row in early if row.target == target])
        return _line("", gains, losses)
    rows = [row for row in rows if row.precision != "int8"] or rows
    points = {(row.policy, row.target) for row in early if row.target is not None}
    holding = [point for point in points if (one := known.get(point)) is not None and one.state == "holds"]
    policy, target = max(holding, key=lambda p: p[1]) if holding else min(points, key=lambda p: p[1])
    mine = [row for row in rows if (row.policy, row.target) == (policy, target)]
    gains, losses = _compared(rows, [row for row in mine if row.name != "predicted"] or mine)
    accuracy, speed = known.get((policy, target)), "; ".join([*gains, *losses])
    if full_depth is not None:
        about = "its accuracy is not known" if accuracy is None else str(accuracy)
        return (
            "Early exit does not pay here at an accuracy that holds: the default operating point is the full depth (by "
            f"{full_depth}). {policy} at {target:g}x by FLOPs: {about}; {speed}."
        )
    if accuracy is None:
        return _line(f" in speed, at an accuracy that is not known ({policy} at {target:g}x by FLOPs)", gains, losses)
    if accuracy.state == "lost" and gains:
        return (
            f"Early exit does not pay here at an accuracy that holds: {policy} at {target:g}x by FLOPs: {accuracy}, "
            f"more than {accuracy.allowed:g}; {speed}."
        )
    how = f" at an accuracy that holds ({policy}: {accuracy})"
    if accuracy.state == "open":
        how = f", but whether its accuracy holds is open ({policy}: {accuracy}; {accuracy.allowed:g} is allowed)"
    return _line(how if gains else f" ({policy}: {accuracy})", gains, losses)


def _line(how: str, gains: Sequence[str], losses: Sequence[str]) -> str:
    if gains and losses:
        return f"Early exit pays here in part{how}: {'; '.join(gains)}. It does not {'; nor '.join(losses)}."
    return f"Early exit {'pays' if gains else 'does not pay'} here{how}: {'; '.join(gains or losses)}."


def _compared(rows: Sequence[Row], early: Sequence[Row]) -> tuple[list[str], list[str]]:
    """By batch size, the fastest of `early` against the fastest whole model: those that gain, and those that do not."""
    rate = attrgetter("samples_per_second")
    gains: list[str] = []
    losses: list[str] = []
    for size in sorted({row.batch_size for row in rows}):
        engine = max((row for row in early if row.batch_size == size), key=rate, default=None)
        whole = [r for r in rows if r.batch_size == size and r.target is None and "layer" not in r.name]
        if engine is None or not whole:
            continue
        rival = max(whole, key=rate)
        gain = ratio(rival.seconds, engine.seconds)
        text = (
            f"at batch {size} {engine.name} in {engine.precision} gives {gain:.2f}x the samples/s of the fastest whole "
            f"model ({rival.name}, {rival.precision}) with {engine.speedup_flops:.2f}x fewer FLOPs"
        )
        (gains if gain >= WORTH else losses).append(text)
    return gains, losses
