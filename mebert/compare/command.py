"""What `python -m mebert compare` does with its arguments."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from mebert.compare.output import CompareFormat, as_csv, as_markdown, format_of, print_comparison
from mebert.compare.paired import Comparison, compare_runs
from mebert.compare.runs import check_comparable, read_run
from mebert.errors import UserError
from mebert.report.tables import print_pairs

__all__ = ["compare_command"]


def compare_command(
    runs: Sequence[str], policy: str | None, speedups: Sequence[float], format: CompareFormat | None, out: Path | None
) -> None:
    """Read, compare, and print or write.

    Args:
        runs: Folders.
        policy: As `read_run`.
        speedups: At least 1 each.
        format: As `format_of`.
        out: The file; None for standard output.

    Raises:
        UserError: An argument is wrong, or the runs cannot be compared.
    """
    if not runs:
        raise UserError(
            "runs is missing: give folders of tested runs, such as compare runs/a/version_0 runs/b/version_0"
        )
    slow = [speed for speed in speedups if speed < 1]
    if slow:
        raise UserError(f"speedups must be at least 1, got {slow[0]:g}")
    form = format_of(format, out)
    read = [read_run(run, policy) for run in runs]
    check_comparable(read)
    comparison = compare_runs(read, speedups)
    if out is None:
        if form != "text":
            print(as_markdown(comparison) if form == "md" else as_csv(comparison), end="")
            return
        print_comparison(comparison)
        again = " ".join(shlex.quote(str(run.folder)) for run in read)
        print_pairs("Next:", {"as a file": f"python -m mebert compare {again} --out comparison.md"})
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        if form == "text":
            print_comparison(comparison, file)
        else:
            file.write(as_markdown(comparison) if form == "md" else as_csv(comparison))
    print_pairs("Saved:", {"comparison": out})
    print_pairs("Next:", _with_best(comparison))


def _with_best(comparison: Comparison) -> dict[str, str]:
    """What to do with the run with the largest area, by what a study may have left of it."""
    best = max(comparison.runs, key=lambda run: -1.0 if run.area is None else run.area)
    config = shlex.quote(str(best.folder / "config.yaml"))
    tested = best.evaluation.get("checkpoint")
    checkpoints = [Path(tested)] if tested else []
    for checkpoint in (*checkpoints, best.folder / "checkpoints" / "best.ckpt"):
        if checkpoint.is_file():
            known = f"--config {config} --ckpt_path {shlex.quote(str(checkpoint))}"
            return {"predict": f"python -m mebert predict {known} --out out.csv"}
    model = best.folder / "model"
    if model.is_dir():
        return {"measure its speed": f"python -m mebert bench --model {shlex.quote(str(model))}"}
    return {"train it again": f"python -m mebert fit --config {config}"}
