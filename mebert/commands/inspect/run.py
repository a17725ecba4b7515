"""The command: open, trace, project, and print or write."""

from __future__ import annotations

import json
import shlex

from mebert.commands.inspect.report import Inspection
from mebert.commands.inspect.samples import Samples, run_rows
from mebert.commands.inspect.settings import InspectSettings, RowSource
from mebert.commands.inspect.source import Opened, open_model
from mebert.commands.inspect.spaces import exit_spaces
from mebert.commands.inspect.tables import print_inspection
from mebert.commands.inspect.tokens import find_predictor, view_tokens
from mebert.commands.inspect.trace import trace_texts
from mebert.errors import UserError
from mebert.policies import ExitPolicy

__all__ = ["inspect_model", "run_inspection"]

OPTIONS = {"count": "samples"}
"""Options that are called otherwise than what they set."""


def run_inspection(settings: InspectSettings) -> Inspection:
    """Look into a model; print what was found, or write it.

    Raises:
        UserError: A setting that cannot work, or there is neither a text nor a row to look at.
    """
    found = inspect_model(settings)
    wanted, out = settings.wanted, settings.out
    if wanted == "text":
        print_inspection(found)
        return found
    if wanted == "json":
        content = json.dumps(found.as_dict(), indent=2, allow_nan=False)
        if out is None:
            print(content)
            return found
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(content + "\n", encoding="utf-8")
    elif wanted == "png":
        from mebert.commands.inspect.picture import save_picture

        assert out is not None
        out.parent.mkdir(parents=True, exist_ok=True)
        save_picture(found, out, f"{found.opened.name}\n{found.heading}")
    else:
        from mebert.commands.inspect.page import page_sections
        from mebert.report.page import write_page

        assert out is not None
        write_page(out, f"Inside {found.opened.name}", found.heading, page_sections(found))
    print(f"Written: {out}")
    for what, command in found.next.items():
        print(f"Next ({what}): {command}")
    return found


def inspect_model(settings: InspectSettings) -> Inspection:
    """All that there is to show; nothing is printed."""
    wanted = settings.wanted
    opened = open_model(settings.model, settings.device, settings.precision)
    numbers = settings.threshold, settings.speedup, settings.max_drop
    policy = opened.classifier.choose_policy(settings.policy, *numbers)
    traces = trace_texts(opened, policy, settings.texts)
    predictor, note = find_predictor(opened, policy)
    notes = [note] if note and traces else []
    views = [None if predictor is None else view_tokens(opened, predictor, trace) for trace in traces]
    # Rows cost a pass over them, and a table of texts does not show them.
    shows_rows = settings.rows.given or not traces or wanted != "text"
    samples = _samples(settings, opened, policy, notes) if shows_rows else None
    if samples is None and not traces:
        raise UserError("there is nothing to look at: give --text, or rows by --task or --file")
    spaces = exit_spaces(opened.model, traces, samples) if shows_rows else []
    if samples is None and spaces and not notes:
        notes.append("no rows beside the texts: they alone span the planes (give --task or --file)")
    return Inspection(opened, policy, traces, views, samples, spaces, notes, _next(settings, opened, policy))


def _samples(settings: InspectSettings, opened: Opened, policy: ExitPolicy, notes: list[str]) -> Samples | None:
    rows = settings.rows
    if rows.count == 0 or (not rows.given and opened.run is None):
        return None
    try:
        return run_rows(opened, policy, rows)
    except UserError as error:
        if rows.given or not settings.texts:
            raise
        notes.append(f"no rows of the run beside the texts: {error}")  # its data is not here: texts can do without
        return None


def _next(settings: InspectSettings, opened: Opened, policy: ExitPolicy) -> dict[str, str]:
    """The commands that come next, by what they are for."""
    found = {}
    chosen = {"policy": settings.policy, "threshold": settings.threshold, "speedup": settings.speedup}
    rows, usual = vars(settings.rows), vars(RowSource())
    chosen |= {"max_drop": settings.max_drop}
    chosen |= {OPTIONS.get(name, name): value for name, value in rows.items() if value != usual[name]}
    options = "".join(f" --{name} {shlex.quote(str(value))}" for name, value in chosen.items() if value is not None)
    if settings.wanted != "html":
        texts = [text for text in settings.texts if isinstance(text, str)]
        pairs = [text for text in settings.texts if not isinstance(text, str)]
        words = f" --text {shlex.join(texts)}" if texts else ""
        words += "".join(f" --pair {shlex.join(pair)}" for pair in pairs)
        found["page"] = f"python -m mebert inspect {shlex.quote(settings.model)}{words}{options} --out report.html"
    if opened.run is not None and opened.checkpoint is not None:
        paths = [f"--config {shlex.quote(str(opened.run / 'config.yaml'))}"]
        paths.append(f"--ckpt_path {shlex.quote(str(opened.checkpoint))}")
        own = settings.policy is None or settings.policy == getattr(opened.classifier.policy, "name", None)
        numbers = {
            "speedup": settings.speedup,
            "max_drop": settings.max_drop,
            "predictions.threshold": settings.threshold,
        }
        speed = [f"--{name} {value:g}" for name, value in numbers.items() if value is not None and own]
        found["predict"] = " ".join(["python -m mebert predict", *paths, *speed, "--out out.csv"])
    else:
        found["in Python"] = f"mebert.EarlyExitClassifier.from_pretrained({opened.name!r})(texts)"
    return found
