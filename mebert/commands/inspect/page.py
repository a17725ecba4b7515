"""Texts, tokens and spaces as sections of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mebert.commands.inspect.charts import space_section
from mebert.commands.inspect.report import Inspection
from mebert.commands.inspect.styles import layer_colours
from mebert.commands.inspect.tables import cell, step_columns, summary
from mebert.commands.inspect.tokens import TokenNote, TokenView
from mebert.commands.inspect.trace import ExitStep, TextTrace, shown_text
from mebert.report.page import Cell, Html, Note, Part, Section, Table

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["page_sections"]

CHIP = "display: inline-block; margin: 2px 1px; padding: 0 .35em; border-radius: 4px; "
SHORT = {"own proto": "to own", "other proto": "to other", "layers": "by layers", "FLOPs": "by FLOPs"}
UNSEEN = "outline: 2px dotted var(--ink); "


def page_sections(found: Inspection) -> list[Section]:
    """The page's sections: texts, spaces, what comes next."""
    sections = []
    if found.traces:
        inner = [
            _text_section(found, trace, view, number)
            for number, (trace, view) in enumerate(zip(found.traces, found.views, strict=True), 1)
        ]
        sections.append(Section("Exit by exit", lead=_explained(found), sections=inner))
    if found.spaces:
        sections.append(space_section(found))
    notes = [Note(note) for note in found.notes]
    commands = [Note(f"{what.capitalize()}:", command) for what, command in found.next.items()]
    sections.append(Section("Next", [*notes, *commands]))
    return sections


def _explained(found: Inspection) -> str:
    words = ["A text leaves at the first exit whose score is below the threshold; rows in grey were not reached."]
    if not found.regression:
        words.append("Confidence is the probability of the label, entropy is normalised to [0, 1].")
    if "ratio" in step_columns(found):
        words.append("Distances are to the label's own prototype and to the nearest other one; ratio is made of both.")
    words.append("GFLOPs are the cost of leaving there; the last columns are speed-ups, by layers and by FLOPs.")
    return " ".join(words)


def _text_section(found: Inspection, trace: TextTrace, view: TokenView | None, number: int) -> Section:
    columns = step_columns(found)
    rows = [[_cell(found, step, name) for name in columns] for step in trace.steps]
    header = [SHORT.get(name, name) for name in columns]
    parts: list[Part] = [Table(header, rows, caption=f"Text {number}, exit by exit", sortable=False)]
    if view is not None:
        parts += _token_parts(view, len(found.opened.model.exit_layers))
    return Section(f"{number}. {shown_text(trace.text, 120)}", parts, lead=summary(trace))


def _cell(found: Inspection, step: ExitStep, column: str) -> Cell:
    numbers = {
        "exit": float(step.exit),
        "layer": float(step.layer),
        "confidence": step.confidence,
        "entropy": step.entropy,
        "own proto": step.distance,
        "other proto": step.other_distance,
        "ratio": step.ratio,
        f"{found.policy.name} score": step.score,
        "GFLOPs": step.gflops,
        "layers": step.speedup_layers,
        "FLOPs": step.speedup_flops,
    }
    look = {"leaves here": "strong", "not reached": "dim"}.get(step.decision, "")
    title = ""
    if column == "says" and step.probabilities:
        title = ", ".join(f"{name} {share:.1%}" for name, share in step.probabilities.items())
    return Cell(cell(found, step, column), sort=numbers.get(column), title=title, look=look)


def _token_parts(view: TokenView, count: int) -> list[Part]:
    parts: list[Part] = []
    if any(note.exit is not None for note in view.tokens):
        origin = ""
        if view.origin is not None:
            origin = f" (learnt from the exits of {view.origin.policy} at {view.origin.threshold:.4g})"
        unseen = " Dotted: not seen when the predictor was fitted." if any(not t.counted for t in view.tokens) else ""
        caption = (
            f"Predicted layer of each token by itself, light early and dark late{origin}. Grey: the tokenizer's own "
            f"tokens, which count, too.{unseen}"
        )
        parts.append(Html(_chips(view, count), caption))
    runs = "" if view.longest_run == 1 else f" (runs of up to {view.longest_run} tokens count, too)"
    words = (
        f"{view.reads[0].upper()}{view.reads[1:]}{runs}. Predicted: exit {view.exit}, layer {view.layer}; {view.rule}."
    )
    shares = zip(view.distribution, view.cumulative, strict=True)
    rows = []
    for number, (share, cumulative) in enumerate(shares, 1):
        ground, _ = layer_colours(number - 1, count)
        look = "strong" if number == view.exit else ""
        cells = [Cell(f"{value:.1%}", sort=value, look=look) for value in (share, cumulative)]
        rows.append([Cell(f"exit {number}", colour=ground, look=look), *cells])
    parts.append(Table(["predicted exit", "share", "cumulative"], rows, caption=words, sortable=False))
    return parts


def _chips(view: TokenView, count: int) -> Markup:
    from markupsafe import Markup

    return Markup('<p class="tokens" style="max-width: none">{}</p>').format(
        Markup(" ").join(_chip(note, count) for note in view.tokens)
    )


def _chip(note: TokenNote, count: int) -> Markup:
    from markupsafe import Markup

    ground, ink = layer_colours((note.exit or 1) - 1, count)
    colours = f"background: {ground}; color: {ink}; "
    look = CHIP + ("background: var(--raised); color: var(--soft); " if note.special else colours)
    look += UNSEEN if not note.counted else ""
    shares = ", ".join(f"exit {number} {share:.0%}" for number, share in enumerate(note.distribution, 1))
    title = f"seen {note.counted:,} times: {shares}"
    return Markup('<span style="{}" title="{}">{}<sub>{}</sub></span>').format(look, title, note.text, note.layer)
