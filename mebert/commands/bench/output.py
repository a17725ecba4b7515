"""The tables that `bench` prints, and the files that it writes, one of them a picture."""

from __future__ import annotations

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
from mebert.commands.bench.command import BenchSettings
from mebert.commands.bench.results import Row
from mebert.commands.bench.texts import Texts
from mebert.commands.bench.verdict import Accuracies
from mebert.report.layout import console, print_table, report_table
from mebert.report.plots import save_figure
from mebert.storage.atomic import write_rows, write_text

CUT = "HF layers"  # any "HF k layers"
# Baselines in greys, engines in colours that are distinct for colour-blind readers.
COLOURS = {"HF": "#c8c8c8", "HF padded": "#e4e4e4", "HF sorted": "#9a9a9a", CUT: "#e7c894", "plain": "#5f5f5f"}
COLOURS |= {"ONNX": "#333333", "full": "#b3cde3", "shrink": "#1f77b4", "refill": "#d95f02", "predicted": "#2ca02c"}
COLOURS |= {"ONNX chain": "#9467bd"}

COLUMNS = ["samples/s", "p50 ms", "p95", "p99", "layers", "FLOPs", "wall", "wall/FLOPs", "vs HF"]
# What the names in the column `what` are, but for engines.
BASELINES = {
    "HF": "Hugging Face's own classifier, input order, padded to the longest row of a batch.",
    "HF padded": "Hugging Face's own classifier, padded to the longest text that is read.",
    "HF sorted": "Hugging Face's own classifier, sorted by length, padded to the longest row of a batch.",
    CUT: "the first k layers of Hugging Face's own classifier, sorted by length.",
    "plain": "this package's model without early exits, sorted by length.",
    "ONNX": "the whole model as one graph on ONNX Runtime, fused and in int8 quantised as the chain, sorted by length.",
    "ONNX chain": "the graphs that export writes, on ONNX Runtime, sorted by length; without a policy all layers run.",
}


def describe(
    settings: BenchSettings,
    measured: BenchModel,
    texts: Texts,
    device: torch.device,
    precisions: Sequence[str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The setting of a measurement, as plain values for the terminal and for JSON."""
    model, lengths = measured.model, texts.rows.lengths
    family = model.adapter.config.model_type
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device}, {cpu_name()}"
    return {
        "model": f"{measured.name}: {family}, {model.num_layers} layers of {model.hidden_size}, "
        f"exits after {', '.join(map(str, model.exit_layers))}, pooling {model.pooling}",
        "exits": "as trained" if measured.trained else "drawn to meet each speed-up; heads and policy are computed",
        "texts": f"{texts.origin}: {len(lengths):,} samples of "
        f"{lengths.mean():.1f} tokens on average ({lengths.min()} to {lengths.max()})",
        "device": name,
        "threads": torch.get_num_threads(),
        "precisions": ", ".join(precisions),
        "compile": settings.compile or "",
        "versions": f"torch {torch.__version__}, mebert {mebert.__version__}",
        "notes": "; ".join(notes),
    }


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def explained(rows: Sequence[Row], trained: bool) -> str:
    """What the names and figures of these rows mean."""
    kinds, names = {_kind(row.name) for row in rows}, {CUT: "HF k layers"}
    compared = {_kind(row.name) for row in rows if row.speedup_wall is not None}
    lines = [f"{names.get(kind, kind)}: {text}" for kind, text in BASELINES.items() if kind in kinds]
    based = [names.get(kind, kind) for kind in ("plain", CUT) if kind in compared]
    chain = ", of ONNX chain over ONNX" if "ONNX chain" in compared else ""
    over = f", of {' and '.join(based)} over {'HF sorted' if 'HF sorted' in kinds else 'HF'}" if based else ""
    versus = " vs HF: over HF." if "HF" in kinds else ""
    lines.append(f"wall: speed-up in seconds; of engines over plain{chain}{over}.{versus}")
    lines.append("FLOPs: speed-up by FLOPs, at true lengths. wall/FLOPs: 1 where all saved arithmetic is saved time.")
    waiting = " and ".join(name for name in ("refill", "predicted") if name in kinds)
    let = f"; {waiting} let{'s' * (' ' not in waiting)} samples wait" if waiting else ""
    lines.append(f"p50, p95, p99: ms from feeding a batch to a sample's result{let}.")
    if not trained:
        lines.append("Exits are drawn" + (", and predicted knows them in advance." if "predicted" in kinds else "."))
    return "\n".join(lines)


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
                speeds = (row.samples_per_second, row.p50, row.p95, row.p99)
                ratios = ["" if v is None else f"{v:.2f}x" for v in (row.speedup_wall, row.versus_unsorted)]
                table.add_row(
                    "" if number else row.precision,
                    row.name,
                    _policy(row.policy, row.target),
                    *(f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in speeds),
                    f"{row.mean_layers:.2f}",
                    f"{row.speedup_flops:.2f}x",
                    ratios[0],
                    "" if row.wall_per_flops is None else f"{row.wall_per_flops:.2f}",
                    ratios[1],
                )
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
    folder: Path,
    setting: Mapping[str, Any],
    rows: Sequence[Row],
    shares: Sequence[Shares],
    line: str,
    known: Accuracies | None,
) -> None:
    """Write `bench.json` and `bench.csv` into a folder, which is created if missing; `line` is the verdict."""
    content = {
        "verdict": line,
        "setting": dict(setting),
        "accuracy": [
            {"policy": policy, "target": target, **vars(accuracy)}
            for (policy, target), accuracy in (known or {}).items()
            if accuracy is not None
        ],
        "rows": [vars(row) for row in rows],
        "breakdown": [{**vars(s), "exits_per_layers": s.exits_per_layers} for s in shares],
    }
    write_text(json.dumps(content, indent=2) + "\n", folder / "bench.json")
    names = [name for name in vars(rows[0]) if name != "seconds"]
    cells = ([*(vars(row)[name] for name in names), sorted(row.seconds)[len(row.seconds) // 2]] for row in rows)
    write_rows([[*names, "median_seconds"], *cells], folder / "bench.csv")  # None is an empty cell


def _policy(policy: str, target: float | None) -> str:
    return f"{policy} {target:g}x" if target is not None else policy


def save_bars(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a PNG of the baselines and, of the engines, the first policy at the smallest speed-up."""
    policy = next((row.policy for row in rows if row.policy), "")
    target = min((row.target for row in rows if row.target is not None), default=None)
    # Of the models with fewer layers the deepest one is as fast as the smallest speed-up.
    deepest = max((row.mean_layers for row in rows if _kind(row.name) == CUT), default=0.0)
    shown = [row for row in rows if row.policy in ("", policy) and row.target in (None, target)]
    shown = [row for row in shown if _kind(row.name) != CUT or row.mean_layers == deepest]
    precisions = list(dict.fromkeys(row.precision for row in shown))
    sizes = sorted({row.batch_size for row in shown})
    labels = sorted({row.name for row in shown}, key=lambda name: list(COLOURS).index(_kind(name)))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

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
    legend: dict[str, Any] = {}
    for axes in panels:  # a baseline may be in one panel only
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            legend.setdefault(name, handle)
    figure.legend([*legend.values()], [*legend], loc="outside lower center", ncols=min(len(legend), 9), fontsize=9)
    save_figure(figure, path)


def _kind(name: str) -> str:
    return name if name in COLOURS else CUT
