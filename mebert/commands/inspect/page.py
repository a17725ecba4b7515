"""Texts, tokens and spaces as sections of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mebert.commands.inspect.charts import space_charts, space_legend
from mebert.commands.inspect.inspection import Inspection, layer_colours
from mebert.commands.inspect.tables import Column, separation_columns, step_columns, summary
from mebert.commands.inspect.tokens import TokenView
from mebert.commands.inspect.trace import TextTrace, shorten
from mebert.report.page import Cell, Grid, Html, Note, Part, Section, Table
from mebert.storage.thresholds import threshold_text

if TYPE_CHECKING:
    from markupsafe import Markup

CHIP = "display: inline-block; margin: 2px 1px; padding: 0 .35em; border-radius: 4px; "
UNSEEN = "outline: 2px dotted var(--ink); "


def page_sections(found: Inspection) -> list[Section]:
    """The page's sections: texts, spaces, next commands."""
    sections = []
    columns = step_columns(found)
    if found.traces:
        words = ["A text leaves at the first exit whose score is below the threshold; rows in grey were not reached."]
        if not found.regression:
            least = ", of several labels that of the least certain" * found.multi_label
            words.append(f"Confidence is the probability of the label{least}; entropy is normalised to [0, 1].")
        if any(column.short == "ratio" for column in columns):
            words.append(
                "Distances are to the label's own prototype and to the nearest other one; ratio is made of both."
            )
        words.append("GFLOPs are the cost of leaving there; the last columns are speed-ups, by layers and by FLOPs.")
        texts = zip(found.traces, found.views, strict=True)
        inner = [_text_section(columns, trace, view, number) for number, (trace, view) in enumerate(texts, 1)]
        sections.append(Section("Exit by exit", lead=" ".join(words), sections=inner))
    if found.spaces:
        lead = (
            f"Shown: {found.shown_rows}, in the plane in which they spread most (principal components). Projected is "
            "the output of the prototypical network of an exit, where it has one, else its pooled features."
        )
        about = separation_columns(found)
        rows = [[_cell(column, space) for column in about] for space in found.spaces]
        caption = "How well each exit keeps the classes apart, in all dimensions"
        table = Table([column.name for column in about], rows, caption)
        parts: list[Part] = [Html(space_legend(found)), Grid(space_charts(found), width=340), table]
        sections.append(Section("What each exit sees", parts, lead=lead))
    notes = [Note(note) for note in found.notes]
    commands = [Note(f"{what.capitalize()}:", command) for what, command in found.next.items()]
    return [*sections, Section("Next", [*notes, *commands])]


def _text_section(columns: Sequence[Column], trace: TextTrace, view: TokenView | None, number: int) -> Section:
    looks = {"leaves here": "strong", "not reached": "dim"}
    rows = []
    for step in trace.steps:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in step.probabilities.items())
        rows.append([_cell(c, step, shares, looks.get(step.decision, "")) for c in columns])
    table = Table([c.short or c.name for c in columns], rows, f"Text {number}, exit by exit", sortable=False)
    tokens = [] if view is None else _token_parts(view)
    return Section(f"{number}. {shorten(trace.text, 120)}", [table, *tokens], lead=summary(trace))


def _cell(column: Column, item: Any, shares: str = "", look: str = "") -> Cell:
    value = column.value(item)
    title = shares if column.name == "prediction" else ""
    number = None if isinstance(value, str | tuple) else value
    return Cell(column.text(item), number, title=title, look=look)


def _token_parts(view: TokenView) -> list[Part]:
    """Tokens as coloured chips, and the distribution of the text over exits as a table."""
    parts: list[Part] = []
    count = len(view.distribution)
    if view.by_token:
        origin = ""
        if view.origin is not None:
            origin = f" (learnt from the exits of {view.origin.policy} at {threshold_text(view.origin.threshold)})"
        unseen = " Dotted: not seen when the predictor was fitted." if any(not t.counted for t in view.tokens) else ""
        caption = (
            f"Predicted layer of each token by itself, light early and dark late{origin}. Grey: the tokenizer's own "
            f"tokens, which count, too.{unseen}"
        )
        parts.append(Html(_chips(view, count), caption))
    rows = []
    for number, (share, cumulative) in enumerate(zip(view.distribution, view.cumulative, strict=True), 1):
        ground, _ = layer_colours(number - 1, count)
        look = "strong" if number == view.exit else ""
        cells = [Cell(f"{value:.1%}", sort=value, look=look) for value in (share, cumulative)]
        rows.append([Cell(f"exit {number}", colour=ground, look=look), *cells])
    words = f"{view.source}. Predicted: exit {view.exit}, layer {view.layer}; {view.rule}."
    return [*parts, Table(["predicted exit", "share", "cumulative"], rows, caption=words, sortable=False)]


def _chips(view: TokenView, count: int) -> Markup:
    """Every token with its predicted layer as a colour and a number; the pointer shows the distribution."""
    from markupsafe import Markup

    chip, chips = Markup('<span style="{}" title="{}">{}<sub>{}</sub></span>'), []
    for note in view.tokens:
        ground, ink = ("var(--raised)", "var(--soft)") if note.special else layer_colours((note.exit or 1) - 1, count)
        look = f"{CHIP}background: {ground}; color: {ink}; {'' if note.counted else UNSEEN}"
        shares = ", ".join(f"exit {number} {share:.0%}" for number, share in enumerate(note.distribution, 1))
        chips.append(chip.format(look, f"seen {note.counted:,} times: {shares}", note.text, note.layer))
    return Markup('<p class="tokens" style="max-width: none">{}</p>').format(Markup(" ").join(chips))
