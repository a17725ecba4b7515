"""The page: what is typed on one side, what the exits make of it on the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio

from mebert.commands.demo.speeds import DEFAULT, Speed
from mebert.commands.demo.view import render_answer, render_note, render_speed
from mebert.commands.inspect.source import Opened
from mebert.commands.inspect.trace import trace_texts
from mebert.errors import UserError
from mebert.inference.stream import Text

ABOUT = (
    "This model can answer before its last layer: a text that it is sure of leaves at an early exit, which takes less "
    "time. The page shows at which exit a text leaves, and what each exit makes of it."
)
SHOWN_LABELS = 8
LONGEST = 20_000  # characters of a text
# The update of an element keeps those of its parts that stay, whose animation would not run again.
AGAIN = "watch('value', () => element.getAnimations({subtree: true}).forEach(it => { it.cancel(); it.play(); }))"
# A slider tells a screen reader the number of a place; say what it means.
NAMED = """() => {
  const names = NAMES;
  const tell = event => {
    if (event.target.matches && event.target.matches('#speed input[type=range]'))
      event.target.setAttribute('aria-valuetext', names[event.target.value] || '');
  };
  for (const kind of ['input', 'focusin']) document.addEventListener(kind, tell);
}"""


def build_page(opened: Opened, speeds: Sequence[Speed], examples: Sequence[Text]) -> tuple[Any, dict[str, Any]]:
    """The page as gradio's blocks, and its look, which gradio takes where it is served."""
    pairs = opened.classifier.num_texts == 2
    places = range(len(speeds))
    start = next((place for place in places if DEFAULT in speeds[place].names), 0)

    def answer(place: float, *texts: str) -> str:
        given = [text or "" for text in texts]
        if not all(text.strip() for text in given):
            return render_note("Type both texts." if pairs else "Type a text.")
        if max(map(len, given)) > LONGEST:
            return render_note(f"A text may have {LONGEST:,} characters, this one has {max(map(len, given)):,}.")
        speed = speeds[int(place)]
        try:
            (trace,) = trace_texts(opened, speed.policy, [(given[0], given[1]) if pairs else given[0]])
        except UserError as error:
            return render_note(str(error))
        return render_answer(trace, speed, opened.max_length)

    with gradio.Blocks(title=f"mebert: {opened.name}", analytics_enabled=False) as page:
        gradio.Markdown("# Try the model")
        gradio.HTML(render_note(ABOUT), elem_classes="flush")
        gradio.HTML(render_note(f"{opened.name}: {_describe(opened)}."), elem_classes="flush")
        with gradio.Row():
            with gradio.Column(scale=2, min_width=320):
                boxes = [
                    gradio.Textbox(label=label, lines=1, max_lines=8, max_length=LONGEST, autofocus=label[-1] != "2")
                    for label in (("Text 1", "Text 2") if pairs else ("Text",))
                ]
                button = gradio.Button("Classify", variant="primary")
                slider = gradio.Slider(
                    *(0, max(1, len(speeds) - 1), start),
                    step=1,
                    label="Speed",
                    info="Left: all layers for every text. Right: the earliest exits",
                    elem_id="speed",
                    visible=len(speeds) > 1,
                    buttons=[],
                )
                shown = gradio.HTML(render_speed(speeds, start), elem_classes="flush")
            with gradio.Column(scale=3, min_width=320):
                hint = render_note(f"Type {'two texts' if pairs else 'a text'} and press Classify.")
                result = gradio.HTML(hint, js_on_load=AGAIN, elem_id="answer", elem_classes="flush")
        asked = [button.click, *(box.submit for box in boxes), slider.change]
        if examples:
            rows = [list(text) if isinstance(text, tuple) else [text] for text in examples]
            clicked = gradio.Examples(rows, boxes, cache_examples=False, api_visibility="private")
            asked.append(clicked.load_input_event.then)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        slider.change(lambda place: render_speed(speeds, int(place)), slider, shown, **quiet)
        for event in asked:
            event(answer, [slider, *boxes], result, **quiet)
    names = json.dumps([speed.title for speed in speeds])
    look = {
        "theme": gradio.themes.Default(primary_hue="blue"),
        "css": Path(__file__).with_name("demo.css").read_text(encoding="utf-8"),
        "js": NAMED.replace("NAMES", names),
    }
    return page, look


def _describe(opened: Opened) -> str:
    model = opened.model
    names = opened.classifier.label_names
    more = f" and {len(names) - SHOWN_LABELS} more" if len(names) > SHOWN_LABELS else ""
    answers = f"the labels {', '.join(names[:SHOWN_LABELS])}{more}" if model.num_labels > 1 else "a number"
    reads = "a pair of texts" if opened.classifier.num_texts == 2 else "a text"
    where = f"{model.num_exits} exits on {model.exit_layers[-1]} layers"
    return f"reads {reads}, answers with {answers}; {where}, in {opened.classifier.precision}"
