"""The model card, README.md: what is known of a model in Markdown, and lines to fill in for what is not.

No text of a user's data gets into it; label names do, as plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from mebert.sharing.examples import in_json, in_python
from mebert.sharing.facts import BUILT_IN, CardFacts, Point
from mebert.sharing.metadata import card_metadata
from mebert.storage.markdown import markdown_table, plain_markdown
from mebert.storage.operating_point import MAX_DROP
from mebert.storage.thresholds import threshold_text

CARD = "README.md"
FILL_IN = "*to be filled in*"
MOST_CLASSES = 50


def model_card(facts: CardFacts) -> str:
    """The whole file: metadata between lines of dashes, then Markdown."""
    sections = [
        (facts.repo.rpartition("/")[2], _summary(facts)),
        ("How to use it", _usage(facts)),
        ("Results", _results(facts)),
        ("Per class", _classes(facts)),
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


def _usage(facts: CardFacts) -> Iterator[str]:
    repo, pair = facts.repo, facts.spec.num_texts == 2
    text, before = in_python(facts.example, pair)
    calls = {one.call: f"{one.layers:.2f}x by layers in the test" for one in facts.points}
    calls |= {one.call: f"{one.expected.speedup:.2f}x by layers on validation data" for one in facts.untested_points}
    calls |= {"speedup=1": "full depth"} if "speedup=1" in calls else {}
    named = sorted((call for call in calls if call.startswith("speedup=")), key=lambda call: float(call[8:]))[:4]
    lines = [f"classify({text}, {call})  # {calls[call]}" for call in named]
    default = f"classify({text})  # label, probabilities, exit"
    yield "With mebert (from a clone of it: `pip install -e .`):"
    yield _code(
        "python",
        "from mebert import EarlyExitClassifier",
        "",
        f'classify = EarlyExitClassifier.from_pretrained("{repo}")',
        *before,
        default,
        *lines,
    )
    yield f"or from a shell: `python -m mebert predict {repo} texts.csv --out answers.csv`."
    if facts.onnx:
        yield (
            f"With ONNX Runtime ({facts.onnx}; `backend` fetches the folder `onnx` alone), or without PyTorch and "
            "mebert by the runner in it (onnxruntime, tokenizers and numpy):"
        )
        opened = f'EarlyExitClassifier.from_pretrained("{repo}", backend="onnx")'
        yield _code("python", f"classify = {opened}", *before, f"classify({text})")
        given = [json.dumps(one) for one in facts.example or ("...", "...")]
        words = f"--pair {given[0]} {given[1]}" if pair else given[0]
        yield _code(
            "sh",
            f'hf download {repo} --include "onnx/*" --local-dir model',
            f"python model/onnx/runner.py model/onnx {words}",
        )
    else:
        yield (
            "With ONNX Runtime: there is no export in this repository; "
            f"`python -m mebert export {repo} --out exported` writes one."
        )
    body = in_json(facts.example, pair)
    yield "Over HTTP (`pip install -e '.[serve]'`):"
    yield _code(
        "sh",
        f"python -m mebert serve {repo} --port 8000{'  # --backend onnx: without PyTorch' * bool(facts.onnx)}",
        f"curl http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{body}'",
    )
    yield from _pipeline(facts, pair)


def _pipeline(facts: CardFacts, pair: bool) -> Iterator[str]:
    if facts.pipeline_fault is not None:
        yield (
            f"`transformers.pipeline` cannot run this model: {facts.pipeline_fault}. It would put a random classifier "
            "on the encoder."
        )
        return
    spec = facts.spec
    cut = ", truncation=True" + (f", max_length={spec.max_length}" if spec.max_length else "")
    several = ", top_k=None" if spec.problem_type == "multi_label_classification" else ""
    text, before = in_python(facts.example, pair)
    if pair:
        both = [json.dumps(one) for one in facts.example] or ["pair[0]", "pair[1]"]
        text = f'{{"text": {both[0]}, "text_pair": {both[1]}}}'
    windows = " Longer texts are cut there, and read in windows by mebert." if spec.stride is not None else ""
    yield f"With transformers alone, at full depth (no text leaves early):{windows}"
    yield _code(
        "python",
        "from transformers import pipeline",
        "",
        f'classify = pipeline("text-classification", model="{facts.repo}"{several})',
        *before,
        f"classify({text}{cut})",
    )


def _results(facts: CardFacts) -> Iterator[str]:
    test = facts.evaluation
    if test is None:
        yield f"**Not tested.** {facts.untested or 'No test of this model is known.'}"
        yield from _expected(facts)
        return
    full = test["full_model"]["metric"]
    yield (
        f"{_upper(facts.metric)} on {test['samples']:,} rows of the {_split(facts)}, with 95 % bootstrap intervals. "
        "Drop: against full depth. Speed-ups are counted, by layers and by FLOPs, not measured on a clock; FLOPs are "
        "those of the encoder with one classifier, so that full depth with all exits may be a little below 1x."
    )
    if 0 < test["samples"] * MAX_DROP < 1:
        yield f"Few rows: one of {test['samples']:,} is {1 / test['samples']:.2g}, so that these figures are rough."
    header = ["operating point", "in a call", facts.metric, "95 % interval", "drop", "layers", "FLOPs"]
    yield markdown_table(header, [_row(point, full, test["samples"]) for point in facts.points])
    if facts.policy is not None:
        name, threshold = facts.policy
        where = "at full depth" if threshold == 0.0 else f"below the threshold {threshold_text(threshold)}"
        yield (
            f"By default texts leave {where} by the exit policy `{plain_markdown(name)}`"
            + (f" (chosen by {plain_markdown(facts.spec.chosen_by)})." if facts.spec.chosen_by else ".")
        )
        yield from _expected(facts)
    if facts.curve:
        yield f"![{_upper(facts.metric)} against the speed-up by layers](curve.png)"


def _split(facts: CardFacts) -> str:
    shared = facts.training is not None and facts.training.validated_on_test
    if shared:
        return (
            "validation split, on which checkpoint and thresholds were chosen, too (there were no other labelled rows)"
        )
    return f"{plain_markdown(facts.evaluation['split']) if facts.evaluation else ''} split, which chose nothing"


def _digits(rows: int) -> int:
    """Decimals of a figure of so many rows: as many as a row makes a difference in."""
    return 4 if rows >= 1000 else 3 if rows >= 100 else 2


def _row(point: Point, full: float, rows: int) -> list[str]:
    digits = _digits(rows)
    interval = "" if point.interval is None else " to ".join(f"{end:.{digits}f}" for end in point.interval)
    flops = "" if point.flops is None else f"{point.flops:.2f}x"
    drop = "" if point.name == "full depth" else f"{full - point.metric:.{digits}f}"
    return [
        point.name,
        point.call if point.name == "default" else f"`{point.call}`",
        f"{point.metric:.{digits}f}",
        interval,
        drop,
        f"{point.layers:.2f}x",
        flops,
    ]


def _expected(facts: CardFacts) -> Iterator[str]:
    """What validation data expect of the operating points that no test has measured."""
    points = facts.untested_points
    if not points:
        return
    since = "" if facts.evaluation is None else "Not tested, since chosen after the test or by another rule: "
    yield _upper(f"{since}expected on validation rows, on which thresholds were chosen (better than on new ones):")
    rows = []
    for point in points:
        one = point.expected
        digits = _digits(one.samples)
        value, drop = ("undefined" if number is None else f"{number:.{digits}f}" for number in (one.value, one.drop))
        layers = f"{one.speedup:.2f}x"
        if one.speedup_interval is not None:
            layers += " ({:.2f} to {:.2f})".format(*one.speedup_interval)
        call = point.call if point.name == "default" else f"`{point.call}`"
        rows.append([point.name, call, value, drop, layers, f"{one.samples:,} of {plain_markdown(one.data)}"])
    header = ["operating point", "in a call", facts.metric, "drop", "layers (95 %)", "rows"]
    yield markdown_table(header, rows)


def _classes(facts: CardFacts) -> Iterator[str]:
    found = {} if facts.evaluation is None else facts.evaluation.get("per_class") or {}
    places = {"full_depth": "full depth"} | ({"operating_point": "default"} if facts.in_use is not None else {})
    reports = {words: found[name]["classes"] for name, words in places.items() if name in found}
    if not reports:
        return
    header = ["class", "rows", *(f"{figure}, {where}" for where in reports for figure in ("precision", "recall", "F1"))]
    rows = []
    for classes in list(zip(*reports.values(), strict=True))[:MOST_CLASSES]:
        figures = [f"{one[name]:.3f}" for one in classes for name in ("precision", "recall", "f1")]
        rows.append([plain_markdown(str(classes[0]["label"])), f"{classes[0]['support']:,}", *figures])
    yield markdown_table(header, rows)
    if (more := len(next(iter(reports.values()))) - len(rows)) > 0:
        yield f"{more:,} more classes."


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


def _code(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
