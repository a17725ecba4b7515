"""`python -m mebert compare`: is one run better than another, or is it chance?"""

from __future__ import annotations

from pathlib import Path

from mebert.choices import CompareFormat


def compare(
    runs: list[str] = [],  # noqa: B006  (jsonargparse copies it)
    policy: str | None = None,
    speedups: list[float] = [1.5, 2.0, 3.0],  # noqa: B006
    format: CompareFormat | None = None,
    out: Path | None = None,
) -> None:
    """Compare tested runs of one task: what each reaches at equal speed, and how sure the differences are.

    The first run is what the others are compared with, on the same test rows: the difference of the metric, its 95 %
    bootstrap interval and a p-value (for accuracy McNemar's exact test, else a paired bootstrap). As a page or a
    picture also runs of several tasks, and runs that were not tested.

    Args:
        runs: Folders of runs, as fit and test write them; a folder of several runs stands for its newest tested one.
            May be given without the name: compare runs/a runs/b.
        policy: Name of the policy to compare at; null for each run's own, best for the one that validation data liked
            best in each run.
        speedups: By layers of the deepest run, beside its last exit (1x).
        format: text, md or csv; html, a page of tables and charts that needs no network; png, the curves for a paper.
            null for what `out` ends in (.pdf and .svg are pictures, too), else text.
        out: File to write instead of standard output.
    """
    from mebert.commands.compare.run import compare_command

    compare_command(runs, policy, speedups, format, out)
