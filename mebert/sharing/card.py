"""The model card, README.md: what is known of a model in Markdown, and lines to fill in for what is not.

No text of a user's data gets into it; label names do, as plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mebert.sharing.card_results import classes, results
from mebert.sharing.card_usage import usage
from mebert.sharing.facts import BUILT_IN, CardFacts
from mebert.sharing.metadata import card_metadata
from mebert.storage.markdown import plain_markdown

CARD = "README.md"
FILL_IN = "*to be filled in*"


def model_card(facts: CardFacts) -> str:
    """The whole file: metadata between lines of dashes, then Markdown."""
    sections = [
        (facts.repo.rpartition("/")[2], _summary(facts)),
        ("How to use it", usage(facts)),
        ("Results", results(facts)),
        ("Per class", classes(facts)),
        ("Training", _training(facts)),
        ("Limits", _limits(facts)),
        ("Licence", _licence(facts)),
    ]
    parts = [f"---\n{card_metadata(facts).to_yaml()}\n---"]
    for number, (title, content) in enumerate(sections):
        if paragraphs := list(content):
            parts += [f"#{'#' * (number > 0)} {plain_markdown(title)}", *paragraphs]
    return "\n\n".join(parts) + "\n"


def _summary(facts: CardFacts) -> Iterator[str]:
    spec = facts.spec
    what = {"regression": "A regression model", "multi_label_classification": "A multi-label classifier"}
    texts = " for pairs of texts" if spec.num_texts == 2 else ""
    yield (
        f"{what.get(spec.problem_type or '', 'A classifier')}{texts} with early exit: {len(spec.exit_layers)} "
        f"exits in one encoder ({plain_markdown(facts.encoder)}). Easy texts leave at an early exit, hard ones run "
        f"further, and the speed is chosen at each call. Saved by mebert {plain_markdown(spec.mebert_version or '')}."
    )
    if spec.num_labels > 1:
        yield f"Labels: {', '.join(map(plain_markdown, spec.label_names))}."


def _training(facts: CardFacts) -> Iterator[str]:
    training = facts.training
    if training is None:
        yield f"Data and recipe: {FILL_IN}"
        return
    dataset = "" if training.dataset is None else f" ([{training.dataset[0]}]({_dataset_page(training.dataset[0])}))"
    recipe = f"`{plain_markdown(training.recipe)}`"
    if training.method:
        recipe += f" ({plain_markdown(training.method)})"
    licence = FILL_IN if training.dataset_licence is None else plain_markdown(training.dataset_licence)
    items = {
        "data": f"{plain_markdown(training.data)}{dataset}",
        **({} if training.dataset_type == BUILT_IN else {"licence of the data": licence}),
        "encoder": plain_markdown(facts.spec.base_model or facts.encoder),
        "recipe": recipe,
        **({} if training.source is None else {"paper": _linked(plain_markdown(training.source))}),
        "settings": ", ".join(f"{name} {plain_markdown(value)}" for name, value in training.settings.items()),
    }
    yield "\n".join(f"- {name}: {value}" for name, value in items.items() if value)


def _linked(paper: str) -> str:
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", paper)


def _dataset_page(dataset: str) -> str:
    return f"https://huggingface.co/datasets/{dataset}"


def _limits(facts: CardFacts) -> Iterator[str]:
    spec = facts.spec
    limits = []
    if spec.stride is not None:
        limits.append(f"Texts longer than {spec.max_length} tokens are read in windows, whose logits are averaged.")
    elif spec.max_length is not None:
        limits.append(f"Texts are cut at {spec.max_length} tokens, as in training.")
    if spec.num_texts == 2:
        limits.append("It reads pairs of texts; what it answers to single ones means nothing.")
    rows = facts.expected[0].samples if facts.expected else None
    if rows:
        limits.append(
            f"Thresholds were chosen on {rows:,} rows; other texts may lose more by leaving early. Test your own: "
            f"`python -m mebert test {facts.repo} labelled.csv`."
        )
    limits.append("In bfloat16 and int8 a few texts near the threshold take another exit than in float32.")
    limits.append(
        "Nothing but the figures above was measured: no other language, domain or year, and not whether it treats "
        "groups of people alike."
    )
    limits.append(f"Intended use: {FILL_IN}")
    yield "\n".join(f"- {one}" for one in limits)


def _licence(facts: CardFacts) -> Iterator[str]:
    if facts.licence is None:
        yield (
            f"{FILL_IN}: none was given. Encoder and data have licences of their own, which may bind the model. Then "
            "set `license` at the head of this file."
        )
    else:
        yield f"`{plain_markdown(facts.licence)}`. Encoder and data have licences of their own."
