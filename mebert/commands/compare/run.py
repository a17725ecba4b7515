"""What `python -m mebert compare` does with its arguments."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from mebert.choices import CompareFormat
from mebert.commands.compare.output import as_csv, as_markdown, format_of, print_comparison
from mebert.commands.compare.paired import compare_runs, mismatch
from mebert.commands.compare.run_view import RunView, read_run
from mebert.errors import UserError
from mebert.metrics.task import score_to_choose
from mebert.report.layout import print_pairs
from mebert.storage.atomic import write_text
from mebert.storage.paths import check_output
from mebert.storage.run_folder import RunFolder


def compare_command(
    runs: Sequence[str], policy: str | None, speedups: Sequence[float], format: CompareFormat | None, out: Path | None
) -> None:
    """Read runs from their folders, compare them, and print the result or write it to `out`."""
    if not runs:
        raise UserError(
            "runs is missing: give folders of tested runs, such as compare runs/a/version_0 runs/b/version_0"
        )
    slow = [speed for speed in speedups if not 1 <= speed < math.inf]
    if slow:
        raise UserError(f"speedups must be at least 1, got {slow[0]:g}")
    form = format_of(format, out)
    if out is not None:
        check_output("out", out, inputs=[file for run in runs for file in RunFolder(Path(run)).files])
    if form in ("png", "html") and out is not None:
        _draw(runs, policy, speedups, form, out)
        return
    read = [read_run(run, number, policy) for number, run in enumerate(runs, start=1)]
    for other in read[1:]:
        if reason := mismatch(read[0], other):
            raise UserError(f"{read[0].folder} and {other.folder} cannot be compared: {reason}")
    comparison = compare_runs(read, speedups)
    file = sys.stdout if out is None else StringIO()
    if form == "text":
        print_comparison(comparison, file)
    else:
        file.write(as_markdown(comparison) if form == "md" else as_csv(comparison))
    if isinstance(file, StringIO) and out is not None:
        write_text(file.getvalue(), out)
        print_pairs("Saved:", {"comparison": out})
        print_pairs("Next:", _with_best(read))
    elif form == "text":
        again = shlex.join(str(run.folder) for run in read)
        print_pairs("Next:", {"as a page": f"python -m mebert compare {again} --out report.html"})


def _draw(given: Sequence[str], policy: str | None, speedups: Sequence[float], form: CompareFormat, out: Path) -> None:
    """Write the page or the picture, which take runs of several tasks, and runs without a test."""
    from mebert.commands.compare.page import write_comparison_page
    from mebert.commands.compare.picture import save_picture
    from mebert.commands.compare.seed_groups import task_groups

    runs = [read_run(run, number, policy, tested=False) for number, run in enumerate(given, start=1)]
    tested, untested = [run for run in runs if run.evaluation], [run for run in runs if not run.evaluation]
    if form == "html":
        write_comparison_page(task_groups(runs), speedups, policy, out)
    else:
        save_picture(task_groups(runs), out)
    print_pairs("Saved:", {"page" if form == "html" else "picture": out})
    if untested:
        where = "shown with what their training logged" if form == "html" else "not in the picture"
        print_pairs(f"Not tested, {where}:", [(f"run {run.number}", run.folder) for run in untested])
    print_pairs("Next:", _with_best(tested) if tested else {"test one": untested[0].test_command})


def _with_best(runs: Sequence[RunView]) -> dict[str, str]:
    """The next command for the run with the largest area, by the files that are left of it."""
    run = max(runs, key=lambda run: score_to_choose(run.area))
    if (run.folder / "model").is_dir():
        return {"predict": f"python -m mebert predict {shlex.quote(str(run.folder))} my.csv --out out.csv"}
    config = shlex.quote(str(RunFolder(run.folder).config))
    tested = run.evaluation.get("checkpoint")
    for checkpoint in [*([Path(tested)] if tested else []), RunFolder(run.folder).checkpoint()]:
        if checkpoint.is_file():
            known = f"--config {config} --ckpt_path {shlex.quote(str(checkpoint))}"
            return {"predict": f"python -m mebert predict {known} --out out.csv"}
    return {"train it again": f"python -m mebert fit --config {config}"}
