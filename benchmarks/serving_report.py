"""The table and the picture of a server under load in docs/serving.md, from the results of benchmarks/serving.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from page import replace_between, table

MARKS = "<!-- load -->", "<!-- end of load -->"
MODES = {"full": "full depth", "2x": "fixed 2x", "elastic": "elastic"}
COLOURS = {"full": "#888888", "2x": "#1f77b4", "elastic": "#d62728"}

Cell = dict[str, Any]


def load_cells(results: Path) -> list[Cell]:
    """All cells, by mode and load."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*_*.json")]
    return sorted(cells, key=lambda cell: (list(MODES).index(cell["mode"]), cell["load"]))


def share(cell: Cell, key: str) -> float:
    """Part of the requests sent."""
    return float(cell[key]) / float(cell["sent"])


def drop(cell: Cell) -> float:
    """By how much the accuracy is below full depth's on the same texts."""
    return float(cell["right_at_full_depth"] - cell["right"]) / float(cell["texts"])


def load_table(cells: list[Cell]) -> str:
    """A row a cell."""
    rows = []
    for cell in cells:
        lost = f"{100 * share(cell, 'refused'):.1f} %"
        if cell["failed"]:
            lost += f" (+ {100 * share(cell, 'failed'):.1f} % not answered)"
        points = ", ".join(f"{name} {100 * n / cell['answered']:.0f} %" for name, n in list(cell["points"].items())[:4])
        rows.append(
            [
                *(MODES[cell["mode"]], f"{cell['load']:g}", f"{cell['rate']:.0f}", f"{cell['sent']:,}"),
                *(f"{1000 * cell['p50']:.0f}", f"{1000 * cell['p99']:.0f}", f"{100 * share(cell, 'in_time'):.1f} %"),
                *(lost, f"{100 * cell['right'] / cell['texts']:.1f}", f"{100 * drop(cell):+.2f}", points),
            ]
        )
    header = ["answers at", "load", "requests/s", "sent", "p50 ms", "p99 ms", "in time", "refused", "accuracy", "drop"]
    return table([*header, "operating points of the answers"], rows)


def summary(cells: list[Cell], max_drop: float) -> str:
    """What the cells say at half and at twice the capacity."""
    found = {(cell["mode"], cell["load"]): cell for cell in cells}
    full, elastic, idle = found["full", 2.0], found["elastic", 2.0], found["elastic", 0.5]
    kept = "within" if elastic["p99"] <= elastic["target"] else "above"
    allowed = "within" if drop(elastic) <= max_drop else "above"
    late, in_time = 100 * (1 - share(full, "in_time")), 100 * share(idle, "in_time")
    lost = 100 * drop(elastic)
    return f"""The target is {1000 * full["target"]:.0f} ms. At twice the full depth's capacity the elastic server's p99
is {1000 * elastic["p99"]:.0f} ms, {kept} the target, and its accuracy {lost:.2f} points below full depth's on the same
texts, {allowed} the {100 * max_drop:g} that `--max_drop {max_drop:g}` allows; full depth alone refuses or
answers late {late:.0f} % of the requests. At half the capacity the elastic server loses {100 * drop(idle):.2f} points,
and {in_time:.1f} % are answered in time."""


def picture(cells: list[Cell], path: Path, max_drop: float) -> None:
    """99th percentile, share answered in time, and the accuracy that it costs, against the load."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import StrMethodFormatter

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    values: tuple[tuple[str, Callable[[Cell], float]], ...] = (
        ("p99 of the answers, ms", lambda cell: 1000 * cell["p99"]),
        ("answered in time, % of sent", lambda cell: 100 * share(cell, "in_time")),
        ("accuracy lost on the same texts, points", lambda cell: 100 * drop(cell)),
    )
    for axis, (title, value) in zip(axes, values, strict=True):
        for mode, name in MODES.items():
            own = [cell for cell in cells if cell["mode"] == mode]
            axis.plot([c["load"] for c in own], [value(c) for c in own], "o-", color=COLOURS[mode], label=name)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("load, in capacities of the full depth", fontsize=9)
        axis.grid(alpha=0.3)
    target = 1000 * cells[0]["target"]
    axes[0].axhline(target, color="black", linestyle="--", linewidth=1, label=f"target, {target:.0f} ms")
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0].yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    axes[0].legend(fontsize=8)
    axes[1].set_ylim(-3, 103)
    axes[2].axhline(100 * max_drop, color="black", linestyle="--", linewidth=1, label=f"--max_drop {max_drop:g}")
    axes[2].legend(fontsize=8, loc="center left")
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def write_report(results: Path, page: Path) -> None:
    """Put the figures between the marks of docs/serving.md, and the picture beside it."""
    from serving import MAX_DROP, PER_REQUEST, SECONDS, WARM_UP

    cells = load_cells(results)
    if not cells:
        raise SystemExit(f"no measurements in {results}; run: python benchmarks/serving.py run")
    picture(cells, page.with_suffix(".png"), MAX_DROP)
    setting = json.loads((results / "capacity.json").read_text(encoding="utf-8"))
    text = f"""![p99, share answered in time and accuracy lost against the load]({page.stem}.png)

{summary(cells, MAX_DROP)}

{load_table(cells)}

*Each row: {SECONDS:g} s of Poisson arrivals, the first {WARM_UP:g} dropped, {PER_REQUEST} texts of AG's News a request,
all-MiniLM-L6-v2 ({setting["backend"]}, {setting["precision"]}, {setting["device"]}, one thread); the server has one
core, the client another. Load 1 is the capacity of the full depth.
p50 and p99 are of the answers; `in time` is the share of all requests sent that were answered within the target; `drop`
is in points, against the full depth on the same texts. Measured by `python benchmarks/serving.py run`, written by
`python benchmarks/serving.py report`.*"""
    replace_between(page, MARKS, text)
