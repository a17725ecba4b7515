"""The tables that `bench` prints, and the files that it writes."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

import mebert
from mebert.commands.bench.bench_model import BenchModel
from mebert.commands.bench.breakdown import Shares
from mebert.commands.bench.results import Row
from mebert.commands.bench.settings import BenchSettings
from mebert.data.tokenised import TokenisedSplit
from mebert.report.layout import console, print_table, report_table


def describe(
    settings: BenchSettings,
    measured: BenchModel,
    rows: TokenisedSplit,
    device: torch.device,
    precisions: Sequence[str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The setting of a measurement, as plain values for the terminal and for JSON."""
    model, lengths = measured.model, rows.lengths
    family = model.adapter.config.model_type
    origin = f"{settings.task} {settings.split}" if settings.task else settings.texts
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device}, {_cpu_name()}"
    return {
        "model": f"{measured.name}: {family}, {model.num_layers} layers of {model.hidden_size}, "
        f"exits after {', '.join(map(str, model.exit_layers))}, pooling {model.pooling}",
        "exits": "as trained" if measured.trained else "drawn to meet each speed-up; heads and policy are computed",
        "texts": f"{origin or f'random tokens, lengths {settings.lengths}'}: {len(rows):,} samples of "
        f"{lengths.mean():.1f} tokens on average ({lengths.min()} to {lengths.max()})",
        "device": name,
        "threads": torch.get_num_threads(),
        "precisions": ", ".join(precisions),
        "compile": settings.compile or "",
        "versions": f"torch {torch.__version__}, mebert {mebert.__version__}",
        "notes": "; ".join(notes),
    }


def explain_columns(measured: BenchModel) -> str:
    """The meaning of the columns."""
    lines = [
        "HF: Hugging Face's own classifier, input order, padded to the longest row of a batch.",
        "plain: this package's model without early exits, sorted by length.",
        "wall: speed-up in seconds; of engines over plain, of plain and HF k layers over HF sorted. vs HF: over HF.",
        "FLOPs: speed-up by FLOPs, at true lengths. wall/FLOPs: 1 where all saved arithmetic is saved time.",
        "p50, p95, p99: ms from feeding a batch to a sample's result; refill and predicted let samples wait.",
    ]
    if not measured.trained:
        lines.append("Exits are drawn, and predicted knows them in advance.")
    return "\n".join(lines)


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


COLUMNS = ["samples/s", "p50 ms", "p95", "p99", "layers", "FLOPs", "wall", "wall/FLOPs", "vs HF"]


def print_rows(rows: Sequence[Row], caption: str) -> None:
    """One table per batch size, with a section for each precision; the caption is below the last one."""
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
    """Write `bench.json` and `bench.csv` into a folder, which is created if missing; `line` is the verdict."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "verdict": line,
        "setting": dict(setting),
        "rows": [vars(row) for row in rows],
        "breakdown": [{**vars(s), "exits_per_layers": s.exits_per_layers} for s in shares],
    }
    (folder / "bench.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with (folder / "bench.csv").open("w", newline="", encoding="utf-8") as file:
        table = [{k: v for k, v in vars(row).items() if k != "seconds"} for row in rows]
        writer = csv.DictWriter(file, [*table[0], "median_seconds"])  # None is written as an empty cell
        writer.writeheader()
        for values, row in zip(table, rows, strict=True):
            writer.writerow({**values, "median_seconds": sorted(row.seconds)[len(row.seconds) // 2]})


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
        _times(row.versus_unsorted),
    ]


def _policy(policy: str, target: float | None) -> str:
    return f"{policy} {target:g}x" if target is not None else policy


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
