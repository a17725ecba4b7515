"""The model card's figures: measured operating points, those only expected, and each class."""

from __future__ import annotations

from collections.abc import Iterator

from mebert.sharing.facts import CardFacts, Point
from mebert.storage.markdown import markdown_table, plain_markdown
from mebert.storage.operating_point import MAX_DROP
from mebert.storage.thresholds import threshold_text

MOST_CLASSES = 50


def results(facts: CardFacts) -> Iterator[str]:
    """Paragraphs of the section "Results"."""
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


def classes(facts: CardFacts) -> Iterator[str]:
    """Paragraphs of the section "Per class"; none where nothing was measured."""
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


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
