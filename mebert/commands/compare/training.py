"""The charts of the training: validation and loss, curriculum, easy and hard rows."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mebert.commands.compare.chart_parts import HEAD, add_line, menu, metric_title, wrapped
from mebert.commands.compare.run_view import RunView
from mebert.commands.compare.seed_groups import SeedGroup
from mebert.report.page import plain

MOST_POINTS = 100
CURRICULUM = {"curriculum/share": "Share of the training rows in use", "curriculum/difficulty_shown": "Mean difficulty"}
AXES = {"train/loss": "Loss of the batch", "val/score": "Validation score"}
NO_METRICS = ("gflops", "ece")


def training_chart(groups: Sequence[SeedGroup], metric: str) -> Any | None:
    """What was logged during training, one line for each run; None where nothing was.

    A button for each of the validation score, the metric of each exit, and the training loss.
    """
    import plotly.graph_objects as go

    runs = [run for group in groups for run in group.runs]
    columns = _columns(runs, metric)
    if not columns:
        return None
    validated = [[row["epoch"] for row in run.logged if {"epoch", "val/score"} <= row.keys()] for run in runs]
    by_epoch = all(len(set(epochs)) == len(epochs) for epochs in validated)  # one validation an epoch
    first = next(iter(columns))
    figure, column_of = go.Figure(), []
    for column in columns:
        axis = "epoch" if by_epoch and column != "train/loss" else "step"
        for group in groups:
            for seen, run in enumerate(_logging(group, column)):
                points = [
                    (row[axis] + (axis == "epoch"), row[column]) for row in run.logged if {axis, column} <= {*row}
                ]
                if len(points) > MOST_POINTS:
                    points = [points[round(at)] for at in np.linspace(0, len(points) - 1, MOST_POINTS)]
                seed = "" if run.seed is None else f", seed {run.seed}"
                more = {
                    "legendgroup": group.name,
                    "showlegend": seen == 0,
                    "visible": column == first,
                    "mode": "lines+markers" if len(points) <= 20 else "lines",
                    "text": [f"<b>{wrapped(group.name, HEAD)}</b>{seed}<br>{plain(columns[column])}"] * len(points),
                    "hovertemplate": f"%{{text}}: %{{y:.4f}}<br>{axis} %{{x}}<extra></extra>",
                }
                add_line(figure, group, [x for x, _ in points], [y for _, y in points], size=6, **more)
                column_of.append(column)
    last = max(row.get("epoch", 0.0) for run in runs for row in run.logged)
    axes = {
        column: {
            "xaxis.title.text": "Epoch" if by_epoch and column != "train/loss" else "Step",
            "xaxis.dtick": 1 if by_epoch and column != "train/loss" and last < 12 else None,
            "yaxis.title.text": AXES.get(column, metric_title(metric)),
        }
        for column in columns
    }
    free = {"xaxis.autorange": True, "yaxis.autorange": True}
    buttons = [
        (title, "update", [{"visible": [one == column for one in column_of]}, axes[column] | free])
        for column, title in columns.items()
    ]
    dropdown = menu(0.0, 1.0, buttons) | {"type": "dropdown", "direction": "down"}
    figure.update_layout(
        height=440,
        margin={"t": 56},
        showlegend=True,
        xaxis={"title": {"text": axes[first]["xaxis.title.text"]}, "dtick": axes[first]["xaxis.dtick"]},
        yaxis={"title": {"text": axes[first]["yaxis.title.text"]}},
        updatemenus=[dropdown],
    )
    return figure


def curriculum_charts(groups: Sequence[SeedGroup]) -> list[Any]:
    """The share of the rows in each epoch of a curriculum, and their difficulty; empty without a curriculum."""
    import plotly.graph_objects as go

    found = []
    for column, title in CURRICULUM.items():
        figure = go.Figure()
        for group in groups:
            for seen, run in enumerate(_logging(group, column)):
                rows = [row for row in run.logged if {"epoch", column} <= row.keys()]
                epochs = [row["epoch"] + 1 for row in rows]
                quantiles = [f"curriculum/difficulty_p{q}" for q in (10, 90)]
                if column != "curriculum/share" and seen == 0 and all(name in rows[0] for name in quantiles):
                    for name in quantiles:  # of all rows, beside those that are shown
                        template = f"{name[-2:]} % of all rows are easier: %{{y:.4g}}<extra></extra>"
                        line = {"color": group.style.colour, "dash": "dot", "width": 1}
                        more: dict[str, Any] = {"mode": "lines", "line": line, "marker": None, "showlegend": False}
                        more |= {"legendgroup": group.name, "hovertemplate": template}
                        add_line(figure, group, epochs, [row[name] for row in rows], **more)
                template = "<b>%{fullData.name}</b><br>epoch %{x}: %{y:.4g}<extra></extra>"
                more = {"showlegend": seen == 0, "legendgroup": group.name, "hovertemplate": template}
                add_line(figure, group, epochs, [row[column] for row in rows], **more)
        if figure.data:
            range_ = {"range": [0, 1.05]} if column == "curriculum/share" else {}
            found.append(_small(figure, "Epoch", title, **range_))
    return found


def difficulty_charts(groups: Sequence[SeedGroup], metric: str) -> list[Any]:
    """Mean layers run and the metric by known difficulty, at each run's own threshold; empty without difficulties."""
    import plotly.graph_objects as go

    found = []
    for value, title in (("mean_layers", "Mean layers run"), ("metric", metric_title(metric))):
        figure = go.Figure()
        for group in groups:
            each = [
                {row["group"]: row for row in run.evaluation.get("leaving", []) if row["group"] != "all"}
                for run in group.tested
            ]
            known = [
                level
                for level in (each[0] if each else ())
                if all(level in one and one[level][value] is not None for one in each)
            ]
            if len(known) < 2:
                continue
            means = [sum(one[level][value] for one in each) / len(each) for level in known]
            template = "<b>%{fullData.name}</b><br>difficulty %{x}: %{y:.4f}<br>%{customdata[0]} rows<extra></extra>"
            more: dict[str, Any] = {
                "customdata": [[each[0][level]["samples"]] for level in known],
                "hovertemplate": template,
            }
            add_line(figure, group, [float(level) for level in known], means, **more)
        if figure.data:
            found.append(_small(figure, "Difficulty of the row", title))
    return found


def last_validation(run: RunView) -> dict[str, float]:
    """The last `val/score` and metrics of exits that a run logged; empty without any."""
    found: dict[str, float] = {}
    for row in run.logged:
        found |= {name: value for name, value in row.items() if name == "val/score" or _exit_metric(name)}
    return found


def samples_of(folder: Path, most: int = 5) -> tuple[list[str], list[list[str]]]:
    """The easiest and the hardest training rows of the last epoch in curriculum.csv, as header and rows; or empty."""
    rows: list[dict[str, str]] = []
    if (path := folder / "curriculum.csv").is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    if not rows:
        return [], []
    last = [row for row in rows if row["epoch"] == rows[-1]["epoch"]]
    header = [name for name in rows[0] if name != "epoch"]
    kept = [row for kind in ("easiest", "hardest") for row in [r for r in last if r["which"] == kind][:most]]
    return header, [[str(row[name]) for name in header] for row in kept]


def _logging(group: SeedGroup, column: str) -> Iterator[RunView]:
    """Yield the runs that logged a column."""
    return (run for run in group.runs if any(column in row for row in run.logged))


def _columns(runs: Sequence[RunView], metric: str) -> dict[str, str]:
    """Columns of metrics.csv that are shown, and their labels."""
    logged = {name for run in runs for row in run.logged for name in row}
    exits = sorted(name for name in logged if (found := _exit_metric(name)) and found[1] == metric)
    columns = {"val/score": "validation score"}
    columns |= {name: f"validation, exit {int(name[9:11])}" for name in exits}
    return {name: title for name, title in (columns | {"train/loss": "training loss"}).items() if name in logged}


def _exit_metric(name: str) -> tuple[int, str] | None:
    found = re.fullmatch(r"val/exit_(\d+)/(\w+)", name)
    return None if found is None or found[2] in NO_METRICS else (int(found[1]), found[2])


def _small(figure: Any, x: str, y: str, **yaxis: Any) -> Any:
    """The figure with the layout of charts that stand side by side."""
    places = {float(place) for trace in figure.data for place in trace.x}
    few = all(place.is_integer() for place in places) and max(places) - min(places) < 12
    figure.update_layout(
        height=380,
        showlegend=True,
        legend={"orientation": "h"},
        xaxis={"title": {"text": x}, "dtick": 1 if few else None},  # None leaves it to plotly
        yaxis={"title": {"text": y}, **yaxis},
    )
    return figure
