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

__all__ = ["describe", "explain_columns", "folder_name", "print_breakdown", "print_rows", "save_bars", "write_files"]


def describe(
    settings: BenchSettings,
    subject: BenchModel,
    rows: TokenisedSplit,
    device: torch.device,
    precisions: Sequence[str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The setting of a measurement, as plain values for the report and for JSON."""
    model, lengths = subject.model, rows.lengths
    family = model.adapter.config.model_type
    origin = f"{settings.task} {settings.split}" if settings.task else settings.texts
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device}, {_cpu_name()}"
    return {
        "model": f"{subject.name}: {family}, {model.num_layers} layers of {model.hidden_size}, "
        f"exits after {', '.join(map(str, model.exit_layers))}, pooling {model.pooling}",
        "exits": "as trained" if subject.trained else "drawn to meet each speed-up; heads and policy are paid for",
        "texts": f"{origin or f'random tokens, lengths {settings.lengths}'}: {len(rows):,} samples of "
        f"{lengths.mean():.1f} tokens on average ({lengths.min()} to {lengths.max()})",
        "device": name,
        "threads": torch.get_num_threads(),
        "precisions": ", ".join(precisions),
        "compile": settings.compile or "",
        "versions": f"torch {torch.__version__}, mebert {mebert.__version__}",
        "notes": "; ".join(notes),
    }


def explain_columns(subject: BenchModel) -> str:
    """What the columns of the tables mean."""
    lines = [
        "HF: Hugging Face's own classifier, input order, padded to the longest of a batch: the usual way.",
        "plain: this package's model without early exits, sorted by length.",
        "wall: speed-up in seconds; of engines against plain, of plain and HF k layers against HF sorted.",
        "FLOPs: fewer than the whole model's, at true lengths. wall/FLOPs: 1 where all arithmetic saved is time saved.",
        "p50, p95, p99: ms from handing over a batch to a sample's answer; refill and predicted let samples wait.",
    ]
    if not subject.trained:
        lines.append("Exits are drawn, and predicted knows them beforehand.")
    return "\n".join(lines)


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def folder_name(name: str) -> str:
    """A name that can be a folder."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name).strip("_")


# Grey: without exits. Colours that the colour-blind can tell apart.
CUT = "HF layers"  # stands for "HF 3 layers" and the like: the first layers alone

COLOURS = {"HF": "#c8c8c8", "HF padded": "#e4e4e4", "HF sorted": "#9a9a9a", CUT: "#e7c894", "plain": "#5f5f5f"}

COLOURS |= {"full": "#b3cde3", "shrink": "#1f77b4", "refill": "#d95f02", "predicted": "#2ca02c"}


def save_bars(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a PNG.

    Args:
        rows: All rows; of the engines those of the first policy at the smallest speed-up are drawn.
        path: The file.
        title: Its first line.
    """
    # Not pyplot: a figure on its own needs no display and leaves no global state behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown, target = _shown(rows)
    precisions = list(dict.fromkeys(row.precision for row in shown))
    sizes = sorted({row.batch_size for row in shown})
    labels = sorted({row.name for row in shown}, key=lambda name: list(COLOURS).index(_kind(name)))
    figure = Figure(figsize=(11, 1.0 + 2.9 * len(precisions)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(precisions), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    width = 0.84 / len(labels)
    for axes, precision in zip(panels, precisions, strict=True):
        found = {(row.batch_size, row.name): row for row in shown if row.precision == precision}
        for number, label in enumerate(labels):
            here = [(place, found[size, label]) for place, size in enumerate(sizes) if (size, label) in found]
            xs = [place + (number - (len(labels) - 1) / 2) * width for place, _ in here]
            colour = COLOURS[_kind(label)]
            axes.bar(xs, [row.samples_per_second for _, row in here], width * 0.94, color=colour, label=label)
        axes.set_ylabel(f"{precision}\nsamples/s")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    panels[-1].set_xticks(range(len(sizes)), [f"batch {size}" for size in sizes])
    second = f"engines at {target:g}x fewer FLOPs; grey: no exits" if target is not None else "grey: no exits"
    figure.suptitle(f"{title}\n{second}", fontsize=11)
    handles, names = [], []
    for axes in panels:  # a baseline may be shown in one panel only
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            if name not in names:
                handles.append(handle)
                names.append(name)
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 9), fontsize=9)
    figure.savefig(path)


def _shown(rows: Sequence[Row]) -> tuple[list[Row], float | None]:
    policy = next((row.policy for row in rows if row.policy), "")
    targets = [row.target for row in rows if row.target is not None]
    target = min(targets, default=None)
    # Of the cut models the deepest one is as fast as the smallest speed-up.
    deepest = max((row.mean_layers for row in rows if _kind(row.name) == CUT), default=0.0)
    shown = [row for row in rows if row.policy in ("", policy) and row.target in (None, target)]
    return [row for row in shown if _kind(row.name) != CUT or row.mean_layers == deepest], target


def _kind(name: str) -> str:
    return name if name in COLOURS else CUT


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
