"""What `inspect` prints: a table a text, its tokens with their predicted layers, a table of the exits' spaces."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text as RichText

from mebert.commands.inspect.report import Inspection
from mebert.commands.inspect.styles import layer_colours
from mebert.commands.inspect.tokens import TokenView
from mebert.commands.inspect.trace import ExitStep, TextTrace, shown_text
from mebert.report.layout import console, print_pairs, print_table, report_table

__all__ = [
    "HEADERS",
    "cell",
    "compared_score",
    "decision_text",
    "estimate",
    "print_inspection",
    "separation_columns",
    "step_columns",
    "summary",
]


HEADERS = {
    "own proto": "own prototype",
    "other proto": "nearest other",
    "ratio": "distance ratio",
    "layers": "speed-up layers",
}
"""Columns that are called otherwise where they are shown."""


def print_inspection(found: Inspection) -> None:
    """Print all of it, and what to type next."""
    out = console()
    out.print(f"{found.opened.name}: {found.heading}", style="bold", markup=False)
    out.print()
    for number, (trace, view) in enumerate(zip(found.traces, found.views, strict=True), 1):
        out.print(f"{number}. {shown_text(trace.text)}", style="bold", markup=False)
        out.print(f"   {summary(trace)}", markup=False)
        print_table(text_table(found, trace), out, keys=2)
        if view is not None:
            print_tokens(out, view, trace, found)
            out.print()
    if found.spaces:
        print_table(space_table(found), out, keys=2)
    for note in found.notes:
        out.print(f"Note: {note}", markup=False)
    print_pairs("Next:", found.next)


def text_table(found: Inspection, trace: TextTrace) -> Table:
    """One text, exit by exit."""
    table = report_table("")
    columns = step_columns(found)
    for name in columns:
        table.add_column(HEADERS.get(name, name), justify="left" if name in ("says", "decision") else "right")
    for step in trace.steps:
        style = {"leaves here": "bold", "not reached": "dim"}.get(step.decision, "")
        table.add_row(*(RichText(cell(found, step, name), style) for name in columns))
    return table


def summary(trace: TextTrace) -> str:
    """Where a text leaves, as what, and how much sooner than at the end."""
    taken = trace.taken
    return (
        f"{len(trace.input_ids)} tokens: leaves at exit {trace.exit} of {len(trace.steps)} as "
        f"{estimate(taken.answer)}, {taken.speedup_layers:.2f}x by layers, {taken.speedup_flops:.2f}x by FLOPs"
    )


def step_columns(found: Inspection) -> list[str]:
    """The columns of a text's table: those that this model and this policy have something for."""
    steps = [step for trace in found.traces for step in trace.steps]
    # What matters most comes first: where a screen is narrow, the rest is further to the right, or below.
    columns = ["exit", "layer", "says"]
    columns += [] if found.regression else ["confidence"]
    columns += ["decision"]
    if any(step.score is not None for step in steps):
        columns += [f"{found.policy.name} score"]
    columns += [] if found.regression else ["entropy"]
    if any(step.distance is not None for step in steps):
        columns += ["own proto", "other proto", "ratio"]
    return [*columns, "GFLOPs", "layers", "FLOPs"]


def cell(found: Inspection, step: ExitStep, column: str) -> str:
    """What stands in a column of a text's table."""
    values = {
        "exit": str(step.exit),
        "layer": str(step.layer),
        "says": estimate(step.answer),
        "confidence": "" if step.confidence is None else f"{step.confidence:.1%}",
        "entropy": _number(step.entropy),
        "own proto": _number(step.distance),
        "other proto": _number(step.other_distance),
        "ratio": _number(step.ratio),
        f"{found.policy.name} score": compared_score(step, found.policy.threshold),
        "decision": decision_text(step),
        "GFLOPs": f"{step.gflops:.3g}",
        "layers": f"{step.speedup_layers:.2f}x",
        "FLOPs": f"{step.speedup_flops:.2f}x",
    }
    return values[column]


def compared_score(step: ExitStep, threshold: float) -> str:
    """A score beside the threshold that it is compared with."""
    if step.score is None:
        return ""
    shown = "∞" if math.isinf(step.score) else f"{step.score:.4f}"
    return f"{shown} {'<' if step.score < threshold else '≥'} {threshold:.4f}"


def decision_text(step: ExitStep) -> str:
    """What was decided; of an exit that is not reached, what it would say."""
    return f"would say {estimate(step.answer)}" if step.decision == "not reached" else step.decision


def estimate(answer: str | float) -> str:
    """A label, or a number."""
    return answer if isinstance(answer, str) else f"{answer:.4g}"


def print_tokens(out: Console, view: TokenView, trace: TextTrace, found: Inspection) -> None:
    """The tokens with the layers that they ask for, and how the text's predicted exit follows from them.

    Every layer stands as a number behind its token, so that nothing is lost without colours.
    """
    count = len(found.opened.model.exit_layers)
    judged = any(note.exit is not None for note in view.tokens)
    if judged:
        line = RichText("   ")
        for note in view.tokens:
            unseen = "?" if note.counted == 0 else ""
            ground, ink = layer_colours((note.exit or 1) - 1, count)
            style = "dim" if note.special else f"{ink} on {ground}"
            line.append(f"{note.text}_{note.layer}{unseen}", style)
            line.append(" ")
        out.print("   Predicted layer of each token by itself:")
        out.print(line)
        if any(note.counted == 0 for note in view.tokens):
            out.print("   ? not seen when the predictor was fitted: it says what it says of any text", style="dim")
    shares = ", ".join(f"exit {e} {share:.0%}" for e, share in enumerate(view.distribution, 1))
    out.print(f"   {view.reads[0].upper()}{view.reads[1:]}{_runs(view)}:", markup=False)
    out.print(f"   {shares}", markup=False)
    out.print(f"   Predicted: exit {view.exit} ({view.rule}); the policy takes exit {trace.exit}.", markup=False)


def _runs(view: TokenView) -> str:
    return "" if view.longest_run == 1 else f" (runs of up to {view.longest_run} tokens count, too)"


def space_table(found: Inspection) -> Table:
    """How well each exit's space keeps the classes apart."""
    assert found.spaces
    rows = "the inspected texts alone" if found.samples is None else found.samples.what
    table = report_table(f"What each exit sees: {rows}")
    header, cells = separation_columns(found)
    for name in header:
        table.add_column(name, justify="left" if name == "vectors" else "right")
    for row in cells:
        table.add_row(*row)
    table.caption = "Variance: share of all that a plane of two directions shows."
    if "nearest is right" in header:
        table.caption += " Nearest: the class whose prototype (or mean) is nearest."
    return table


def separation_columns(found: Inspection) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table of spaces."""
    header = ["exit", "layer", "vectors", "dimensions", "variance in the plane"]
    known = found.samples is not None and not found.regression
    header += ["exit is right", "nearest is right", "to"] if known else []
    cells = []
    for space in found.spaces:
        row = [str(space.exit), str(space.layer), space.vectors, str(space.dims), f"{sum(space.explained):.0%}"]
        if known:
            shares = (space.exit_right, space.nearest_right)
            row += ["" if share is None else f"{share:.1%}" for share in shares] + [space.mark_kind]
        cells.append(row)
    return header, cells


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "∞" if math.isinf(value) else f"{value:.4g}" if value >= 10 else f"{value:.4f}"
