"""The tables that `bench` prints, and the files that it writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mebert.bench.breakdown import Shares
from mebert.bench.results import Row
from mebert.report.layout import console, print_table, report_table

__all__ = ["print_breakdown", "print_rows", "write_files"]

COLUMNS = [
    "samples/s",
    "p50 ms",
    "p95",
    "p99",
    "layers",
    "FLOPs",
    "wall",
    "wall/FLOPs",
    "vs usual",
]


def print_rows(rows: Sequence[Row], caption: str) -> None:
    """One table a batch size, with a section for each precision.

    Args:
        rows: All of one or more batch sizes.
        caption: Stands under the last table.
    """
    out = console()
    sizes = sorted({row.batch_size for row in rows})
    for size in sizes:
        mine = [row for row in rows if row.batch_size == size]
        title = f"Batch {size}: {mine[0].samples:,} samples, {len(mine[0].seconds)} rounds"
        table = report_table(title, ["precision", "what", "policy"], COLUMNS, caption if size == sizes[-1] else None)
        for _, group in groupby(mine, key=lambda row: row.precision):
            for number, row in enumerate(group):
                table.add_row("" if number else row.precision, *_cells(row))
            table.add_section()
        print_table(table, out, keys=3)


def print_breakdown(shares: Sequence[Shares]) -> None:
    """Where the time of `shrink` goes."""
    table = report_table(
        "Where the time of shrink goes",
        ["batch", "precision", "policy"],
        ["embeddings", "layers", "heads", "policy's", "rest", "exits / layers"],
        "Measured with a clock around each part, which itself takes time: shares, not speeds. Exits: heads and policy.",
    )
    for s in shares:
        parts = [f"{value:.1%}" for value in (s.embeddings, s.layers, s.heads, s.deciding, s.rest, s.exits_per_layers)]
        table.add_row(str(s.batch_size), s.precision, _policy(s.policy, s.target), *parts)
    print_table(table, keys=3)


def write_files(
    folder: Path, setting: Mapping[str, Any], rows: Sequence[Row], shares: Sequence[Shares], line: str
) -> None:
    """Write `bench.json` and `bench.csv`.

    Args:
        folder: Made if it is missing.
        setting: What was measured and where.
        rows: All rows.
        shares: Where the time goes.
        line: The verdict.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "verdict": line,
        "setting": dict(setting),
        "rows": [row.as_dict() for row in rows],
        "breakdown": [{**vars(s), "exits_per_layers": s.exits_per_layers} for s in shares],
    }
    (folder / "bench.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    names = [name for name in rows[0].as_dict() if name != "seconds"]
    with (folder / "bench.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "median_seconds"])
        for row in rows:
            values = [row.as_dict()[name] for name in names]
            seconds = sorted(row.seconds)[len(row.seconds) // 2]
            writer.writerow(["" if value is None else value for value in values] + [seconds])


def _cells(row: Row) -> list[str]:
    return [
        row.name,
        _policy(row.policy, row.target),
        _short(row.samples_per_second),
        _short(row.p50),
        _short(row.p95),
        _short(row.p99),
        f"{row.mean_layers:.2f}",
        f"{row.speedup_flops:.2f}x",
        _times(row.speedup_wall),
        "" if row.wall_per_flops is None else f"{row.wall_per_flops:.2f}",
        _times(row.versus_usual),
    ]


def _policy(policy: str, target: float | None) -> str:
    return f"{policy} {target:g}x" if target is not None else policy


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
