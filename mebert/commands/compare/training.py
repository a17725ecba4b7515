"""The charts of the page about how runs got there: training curves, curriculum, easy and hard rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mebert.commands.compare.chart_parts import menu, metric_title, rounded, wrapped
from mebert.commands.compare.run_view import RunView
from mebert.commands.compare.seed_groups import SeedGroup
from mebert.report.page import plain

__all__ = ["curriculum_charts", "difficulty_charts", "last_validation", "samples_of", "training_chart"]

MOST_POINTS = 100
CURRICULUM = {"curriculum/share": "Share of the training rows in use", "curriculum/difficulty_shown": "Mean difficulty"}
NO_METRICS = ("gflops", "ece")


def training_chart(lines: Sequence[SeedGroup], metric: str) -> Any | None:
    """What every validation said, a line a run, and the training loss; None where nothing was logged.

    Args:
        lines: All of the block.
        metric: The main metric; of the exits this one is shown.
    """
    import plotly.graph_objects as go

    columns = _series_names([run for line in lines for run in line.runs], metric)
    by_epoch = all(_by_epoch(run) for line in lines for run in line.runs)
    first = next(iter(columns), "")
    figure, series_of = go.Figure(), []
    for column in columns:
        axis = "epoch" if by_epoch and column != "train/loss" else "step"
        for line in lines:
            for seen, run in enumerate(run for run in line.runs if any(column in row for row in run.logged)):
                points = _thinned(
                    [(row[axis] + (axis == "epoch"), row[column]) for row in run.logged if {axis, column} <= row.keys()]
                )
                seed = "" if run.seed is None else f", seed {run.seed}"
                figure.add_scatter(
                    x=[x for x, _ in points],
                    y=rounded([y for _, y in points]),
                    name=plain(line.name),
                    legendgroup=line.name,
                    showlegend=seen == 0,
                    visible=column == first,
                    mode="lines+markers" if len(points) <= 20 else "lines",
                    line={"color": line.style.colour, "dash": line.style.dash, "width": 2},
                    marker={"symbol": line.style.symbol, "size": 6},
                    text=[f"<b>{wrapped(line.name, 44)}</b>{seed}<br>{plain(columns[column])}"] * len(points),
                    hovertemplate=f"%{{text}}: %{{y:.4f}}<br>{axis} %{{x}}<extra></extra>",
                )
                series_of.append(column)
    if not series_of:
        return None
    last = max(row.get("epoch", 0.0) for line in lines for run in line.runs for row in run.logged)
    dtick = 1 if last < 12 else None
    buttons = []
    for column, title in columns.items():
        epochs = by_epoch and column != "train/loss"
        shown = {"visible": [one == column for one in series_of]}
        axes = {
            "xaxis.title.text": "Epoch" if epochs else "Step",
            "xaxis.dtick": dtick if epochs else None,
            "yaxis.title.text": _axis(column, metric),
            "xaxis.autorange": True,
            "yaxis.autorange": True,
        }
        buttons.append((title, "update", [shown, axes]))
    figure.update_layout(
        height=440,
        margin={"t": 56},
        showlegend=True,
        xaxis={
            "title": {"text": "Epoch" if by_epoch and first != "train/loss" else "Step"},
            "dtick": dtick if by_epoch and first != "train/loss" else None,
        },
        yaxis={"title": {"text": _axis(first, metric)}},
        updatemenus=[menu(0.0, 1.0, buttons) | {"type": "dropdown", "direction": "down"}],
    )
    return figure


def curriculum_charts(lines: Sequence[SeedGroup]) -> list[Any]:
    """Epoch by epoch what a curriculum showed: the share of the rows, and how hard they were. Empty without one."""
    import plotly.graph_objects as go

    found = []
    for column, title in CURRICULUM.items():
        figure = go.Figure()
        for line in lines:
            for seen, run in enumerate(run for run in line.runs if any(column in row for row in run.logged)):
                rows = [row for row in run.logged if {"epoch", column} <= row.keys()]
                epochs = [row["epoch"] + 1 for row in rows]
                look = {"color": line.style.colour, "dash": line.style.dash}
                shared = {"x": epochs, "legendgroup": line.name, "name": plain(line.name)}
                quantiles = [f"curriculum/difficulty_p{q}" for q in (10, 90)]
                if column != "curriculum/share" and seen == 0 and all(name in rows[0] for name in quantiles):
                    for name in quantiles:  # what all rows are like, beside those that are shown
                        figure.add_scatter(
                            **shared,
                            y=rounded([row[name] for row in rows]),
                            mode="lines",
                            line=look | {"width": 1, "dash": "dot"},
                            showlegend=False,
                            hovertemplate=f"{name[-2:]} % of all rows are easier: %{{y:.4g}}<extra></extra>",
                        )
                figure.add_scatter(
                    **shared,
                    y=rounded([row[column] for row in rows]),
                    mode="lines+markers",
                    line=look | {"width": 2},
                    marker={"symbol": line.style.symbol, "size": 7},
                    showlegend=seen == 0,
                    hovertemplate="<b>%{fullData.name}</b><br>epoch %{x}: %{y:.4g}<extra></extra>",
                )
        if figure.data:
            range_ = {"range": [0, 1.05]} if column == "curriculum/share" else {}
            figure.update_layout(
                height=380,
                showlegend=True,
                legend={"orientation": "h"},
                xaxis={"title": {"text": "Epoch"}, "dtick": _step(figure)},
                yaxis={"title": {"text": title}, **range_},
            )
            found.append(figure)
    return found


def difficulty_charts(lines: Sequence[SeedGroup], metric: str) -> list[Any]:
    """Mean layers run and the metric, by the rows' known difficulty, at each run's own threshold. Empty without any."""
    import plotly.graph_objects as go

    found = []
    for value, title in (("mean_layers", "Mean layers run"), ("metric", metric_title(metric))):
        figure = go.Figure()
        for line in lines:
            groups = [_leaving(run) for run in line.tested]
            levels = [level for level in groups[0] if all(level in one for one in groups)] if groups else []
            known = [level for level in levels if all(one[level][value] is not None for one in groups)]
            if len(known) < 2:
                continue
            means = [sum(one[level][value] for one in groups) / len(groups) for level in known]
            shares = [groups[0][level] for level in known]
            figure.add_scatter(
                x=[float(level) for level in known],
                y=rounded(means),
                name=plain(line.name),
                mode="lines+markers",
                line={"color": line.style.colour, "dash": line.style.dash, "width": 2},
                marker={"symbol": line.style.symbol, "size": 7},
                customdata=[[one["samples"]] for one in shares],
                hovertemplate="<b>%{fullData.name}</b><br>difficulty %{x}: %{y:.4f}"
                "<br>%{customdata[0]} rows<extra></extra>",
            )
        if figure.data:
            figure.update_layout(
                height=380,
                showlegend=True,
                legend={"orientation": "h"},
                xaxis={"title": {"text": "Difficulty of the row"}, "dtick": _step(figure)},
                yaxis={"title": {"text": title}},
            )
            found.append(figure)
    return found


def last_validation(run: RunView) -> dict[str, float]:
    """The last figures that a run's validation logged: `val/score` and each exit's; empty without any."""
    found: dict[str, float] = {}
    for row in run.logged:
        found |= {name: value for name, value in row.items() if name.startswith("val/")}
    return {name: value for name, value in found.items() if name == "val/score" or _exit_metric(name)}


def samples_of(folder: Path, most: int = 5) -> tuple[list[str], list[list[str]]]:
    """The easiest and the hardest training rows of the last epoch of curriculum.csv, as header and rows; or empty."""
    path = folder / "curriculum.csv"
    if not path.is_file():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return [], []
    last = [row for row in rows if row["epoch"] == rows[-1]["epoch"]]
    header = [name for name in rows[0] if name != "epoch"]
    kept = [row for kind in ("easiest", "hardest") for row in [r for r in last if r["which"] == kind][:most]]
    return header, [[str(row[name]) for name in header] for row in kept]


def _leaving(run: RunView) -> dict[str, dict[str, Any]]:
    """Difficulty to where its rows left."""
    return {row["group"]: row for row in run.tested.get("leaving", []) if row["group"] != "all"}


def _series_names(runs: Sequence[RunView], metric: str) -> dict[str, str]:
    """Columns of metrics.csv that can be shown, and what to call them."""
    columns = {name for run in runs for row in run.logged for name in row}
    found = {"val/score": "validation score"} if "val/score" in columns else {}
    exits = sorted(name for name in columns if (m := _exit_metric(name)) and m[1] == metric)
    found |= {name: f"validation, exit {int(name[9:11])}" for name in exits}
    return found | ({"train/loss": "training loss"} if "train/loss" in columns else {})


def _exit_metric(name: str) -> tuple[int, str] | None:
    found = re.fullmatch(r"val/exit_(\d+)/(\w+)", name)
    return None if found is None or found[2] in NO_METRICS else (int(found[1]), found[2])


def _by_epoch(run: RunView) -> bool:
    """Whether every epoch was validated once at most."""
    epochs = [row["epoch"] for row in run.logged if {"epoch", "val/score"} <= row.keys()]
    return len(set(epochs)) == len(epochs)


def _step(figure: Any) -> int | None:
    """A tick at every whole number where there are few and nothing else; None leaves it to plotly."""
    found = {x for trace in figure.data for x in trace.x}
    return 1 if all(float(x).is_integer() for x in found) and max(found) - min(found) < 12 else None


def _axis(column: str, metric: str) -> str:
    if column == "train/loss":
        return "Loss of the batch"
    return "Validation score" if column == "val/score" else metric_title(metric)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 100 of them, the first and the last included."""
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(at * step)] for at in range(MOST_POINTS)]
