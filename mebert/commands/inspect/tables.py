"""The tables of `inspect`, and how they are printed: each text exit by exit, its tokens, the exits' spaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from mebert.commands.inspect.inspection import Inspection, layer_colours
from mebert.commands.inspect.tokens import TokenView
from mebert.commands.inspect.trace import Answer, ExitStep, TextTrace, shorten
from mebert.report.layout import console, print_pairs, print_table, report_table
from mebert.storage.thresholds import threshold_at

LEFT = ("prediction", "decision", "vectors")
LOOKS = {"leaves here": "bold", "not reached": "dim"}


@dataclass(frozen=True)
class Column:
    """A column of a table of steps or spaces: its header (on a page `short`), an item's value, a value as text."""

    name: str
    value: Callable[[Any], Answer | None]
    shown: Callable[[Any], str] = str
    short: str = ""

    def text(self, item: Any) -> str:
        """The cell of an item."""
        value = self.value(item)
        return "" if value is None else self.shown(value)


def step_columns(found: Inspection) -> list[Column]:
    """The columns of a text's table: those in which this model and this policy have values."""
    threshold = found.policy.threshold

    def compared(step: ExitStep) -> str | None:
        if step.score is None:
            return None
        score, at = step.score, threshold_at(threshold, step.exit - 1)
        # As many digits as show the difference, and that a threshold is not 1.
        texts = ((f"{score:.{n}f}", f"{at:.{n}f}") for n in range(4, 17))
        text, limit = next(((a, b) for a, b in texts if a != b and (at == 1 or float(b) != 1)), (str(score),) * 2)
        return f"{'∞' if math.isinf(score) else text} {'<' if score < at else '≥'} {limit}"

    def decision(step: ExitStep) -> str:
        return f"would predict {written(step.answer)}" if step.decision == "not reached" else step.decision

    columns = [  # the most important first: on a narrow terminal the others follow below
        Column("exit", attrgetter("exit")),
        Column("layer", attrgetter("layer")),
        Column("prediction", attrgetter("answer"), written),
        Column("confidence", attrgetter("confidence"), "{:.1%}".format),
        Column("decision", decision),
        Column(f"{found.policy.name} score", compared),
        Column("entropy", attrgetter("entropy"), _number),
        Column("own prototype", attrgetter("distance"), _number, "to own"),
        Column("nearest other", attrgetter("other_distance"), _number, "to other"),
        Column("distance ratio", attrgetter("ratio"), _number, "ratio"),
        Column("GFLOPs", attrgetter("gflops"), "{:.3g}".format),
        Column("speed-up layers", attrgetter("speedup_layers"), "{:.2f}x".format, "by layers"),
        Column("FLOPs", attrgetter("speedup_flops"), "{:.2f}x".format, "by FLOPs"),
    ]
    steps = [step for trace in found.traces for step in trace.steps]
    return [column for column in columns if any(column.value(step) is not None for step in steps)]


def separation_columns(found: Inspection) -> list[Column]:
    """The columns of the table of spaces."""
    columns = [
        Column("exit", attrgetter("exit")),
        Column("layer", attrgetter("layer")),
        Column("vectors", attrgetter("vectors")),
        Column("dimensions", attrgetter("dims")),
        Column("variance in the plane", lambda space: sum(space.explained), "{:.0%}".format),
        Column("exit is right", attrgetter("exit_right"), "{:.1%}".format),
        Column("nearest is right", attrgetter("nearest_right"), "{:.1%}".format),
        Column("to", attrgetter("mark_kind")),
    ]
    if found.samples is None or found.regression:
        return columns[:-3]
    return [c for c in columns if c.name != "nearest is right"] if found.multi_label else columns


def written(prediction: Answer) -> str:
    """A label, a number, or labels."""
    if isinstance(prediction, tuple):
        return ", ".join(prediction) or "(none)"
    return prediction if isinstance(prediction, str) else f"{prediction:.4g}"


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.4g}" if value >= 10 else f"{value:.4f}"


def summary(trace: TextTrace) -> str:
    """Where a text leaves, its prediction, and the speed-up."""
    taken, way = trace.taken, f"{len(trace.input_ids)} tokens: leaves at exit {trace.exit} of {len(trace.steps)}"
    speed = f"{taken.speedup_layers:.2f}x by layers, {taken.speedup_flops:.2f}x by FLOPs"
    return f"{way} as {written(taken.answer)}, {speed}"


def print_inspection(found: Inspection) -> None:
    """Print all of it, and what to type next."""
    out = console()
    out.print(f"{found.opened.name}: {found.heading}", style="bold", markup=False)
    print_pairs("In use:", found.point.as_lines())
    out.print()
    for number, (trace, view) in enumerate(zip(found.traces, found.views, strict=True), 1):
        out.print(f"{number}. {shorten(trace.text)}", style="bold", markup=False)
        out.print(f"   {summary(trace)}", markup=False)
        print_table(_table("", step_columns(found), trace.steps), out, keys=2)
        if view is not None:
            _print_tokens(out, view, trace)
            out.print()
    if found.spaces:
        columns = separation_columns(found)
        table = _table(f"What each exit sees: {found.shown_rows}", columns, found.spaces)
        table.caption = "Variance: share of all that a plane of two directions shows."
        if any(column.name == "nearest is right" for column in columns):
            table.caption += " Nearest: the class whose prototype (or mean) is nearest."
        print_table(table, out, keys=2)
    for note in found.notes:
        out.print(f"Note: {note}", markup=False)
    print_pairs("Next:", found.next)


def _table(title: str, columns: Sequence[Column], items: Sequence[Any]) -> Table:
    table = report_table(title)
    for column in columns:
        table.add_column(column.name, justify="left" if column.name in LEFT else "right")
    for item in items:
        look = LOOKS.get(getattr(item, "decision", ""), "")
        table.add_row(*(RichText(column.text(item), look) for column in columns))
    return table


def _print_tokens(out: Console, view: TokenView, trace: TextTrace) -> None:
    """The tokens with their predicted layers as colours and numbers, and how the text's exit follows from them."""
    if view.by_token:
        line = RichText("   ")
        for note in view.tokens:
            ground, ink = layer_colours((note.exit or 1) - 1, len(view.distribution))
            style = "dim" if note.special else f"{ink} on {ground}"
            line.append(f"{note.text}_{note.layer}{'' if note.counted else '?'}", style).append(" ")
        out.print("   Predicted layer of each token by itself:")
        out.print(line)
        if any(note.counted == 0 for note in view.tokens):
            out.print("   ? did not occur in fitting: the prediction is the one for any text", style="dim")
    shares = ", ".join(f"exit {e} {share:.0%}" for e, share in enumerate(view.distribution, 1))
    predicted = f"Predicted: exit {view.exit} ({view.rule}); the policy takes exit {trace.exit}."
    for words in (f"{view.source}:", shares, predicted):
        out.print(f"   {words}", markup=False)
