"""The command: open, trace, project, and print or write."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from mebert.commands.inspect.command import InspectSettings
from mebert.commands.inspect.inspection import Inspection
from mebert.commands.inspect.samples import run_rows
from mebert.commands.inspect.source import Opened, open_model
from mebert.commands.inspect.spaces import exit_spaces
from mebert.commands.inspect.tables import print_inspection
from mebert.commands.inspect.tokens import find_predictor, view_tokens
from mebert.commands.inspect.trace import trace_texts
from mebert.errors import UserError
from mebert.storage.atomic import write_text
from mebert.storage.paths import check_output
from mebert.storage.run_folder import find_model


def run_inspect(settings: InspectSettings) -> None:
    """Inspect a model; print the result, or write it."""
    if settings.out is not None:
        named = find_model(str(settings.model))
        model = Path(named.model).iterdir() if named.model is not None and Path(named.model).is_dir() else ()
        run = named.run.files if named.run is not None else ()
        own = [named.checkpoint, settings.file]
        check_output("out", settings.out, inputs=[*model, *run, *(path for path in own if path is not None)])
    found = inspect_model(settings)
    wanted, out = settings.wanted, settings.out
    content = json.dumps(found.as_dict(), indent=2, allow_nan=False) if wanted == "json" else ""
    if out is None:  # html and png need one
        print_inspection(found) if wanted == "text" else print(content)
        return
    if wanted == "json":
        write_text(content + "\n", out)
    elif wanted == "png":
        from mebert.commands.inspect.picture import save_picture

        save_picture(found, out)
    else:
        from mebert.commands.inspect.page import page_sections
        from mebert.report.page import write_page

        write_page(out, f"Inside {found.opened.name}", found.heading, page_sections(found))
    print(f"Written: {out}")
    for what, command in found.next.items():
        print(f"Next ({what}): {command}")


def inspect_model(settings: InspectSettings) -> Inspection:
    """Inspect a model, without any output.

    Raises:
        UserError: A setting is invalid, or there is neither a text nor a row to inspect.
    """
    wanted = settings.wanted
    opened = open_model(str(settings.model), settings.device, settings.precision)
    numbers = settings.threshold, settings.speedup, settings.max_drop
    policy = opened.classifier.choose_policy(settings.policy, *numbers)
    point = opened.classifier.point_of(settings.policy, *numbers)
    traces = trace_texts(opened, policy, settings.texts)
    predictor, note = find_predictor(opened, policy)
    notes = [note] if note and traces else []
    views = [None if predictor is None else view_tokens(opened, predictor, trace) for trace in traces]
    # Rows cost a pass over them, and a table of texts does not show them.
    shows_rows = settings.own_rows or not traces or wanted != "text"
    samples = None
    if shows_rows and settings.samples and (settings.own_rows or opened.run is not None):
        try:
            samples = run_rows(opened, policy, settings)
        except UserError as error:
            if settings.own_rows or not traces:
                raise
            notes.append(f"no rows of the run beside the texts: {error}")  # its data is not here: texts can do without
    if samples is None and not traces:
        raise UserError("there is nothing to look at: give --text, or rows by --task or --file")
    spaces = exit_spaces(opened.model, traces, samples) if shows_rows else []
    if samples is None and spaces and not notes:
        notes.append("no rows beside the texts: they alone span the planes (give --task or --file)")
    return Inspection(opened, policy, point, traces, views, samples, spaces, notes, _next(settings, opened))


def _next(settings: InspectSettings, opened: Opened) -> dict[str, str]:
    """The commands that come next, by purpose."""
    found = {}
    if settings.wanted != "html":
        words, default = ["inspect", opened.name], vars(InspectSettings(opened.name))
        for name, value in vars(settings).items():
            if value != default[name] and name not in ("precision", "device", "format", "out"):
                words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        found["page"] = f"python -m mebert {shlex.join(words)} --out report.html"
    words = [opened.name, "my.csv"]
    for name in ("policy", "threshold", "speedup", "max_drop"):
        if (value := getattr(settings, name)) is not None:
            words += [f"--{name}", value if isinstance(value, str) else f"{value:g}"]
    found["predict"] = "python -m mebert predict " + shlex.join([*words, "--out", "out.csv"])
    return found
