"""The chart of the metric against speed, for the lines of one block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mebert.commands.compare.chart_parts import ends_words, menu, metric_title, rounded, wrapped
from mebert.commands.compare.seed_groups import MarkedPoint, SeedGroup, Series
from mebert.report.page import plain

__all__ = ["CHOICES", "curve_chart", "reference_gflops", "speed_ticks"]

CHOICES = {"own": "own rule", "entropy": "entropy", "best": "best rule"}
"""Policies that the curves can be drawn for, and what their buttons say."""

TICKS = (1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 24, 48)
CROWDED = {1.2: 8, 1.5: 16}  # ticks that touch their neighbours on a phone where the axis goes further than this


def reference_gflops(lines: Sequence[SeedGroup]) -> float:
    """What speed-ups count against: the plain model of the dearest run."""
    return max(float(run.tested["plain_gflops"]) for line in lines for run in line.tested)


def speed_ticks(highest: float) -> list[float]:
    """Ticks of an axis of speed-ups."""
    return [tick for tick in TICKS if tick <= highest * 1.02 and highest <= CROWDED.get(tick, highest)]


def curve_chart(lines: Sequence[SeedGroup], metric: str, choices: Sequence[str]) -> Any:
    """Metric against speed for every line, its band over seeds, and its operating points.

    Args:
        lines: Those that were tested.
        metric: The main metric.
        choices: Policies, the first is shown; others by a button.
    """
    import plotly.graph_objects as go

    reference = reference_gflops(lines)
    traces: list[Any] = []
    choice_of: list[str] = []
    costs: list[list[float]] = []
    for choice in choices:
        for line in lines:
            found = line.series(choice)
            if found is None:
                continue
            for trace, cost in _line_traces(line, found, choice, metric, reference):
                trace.visible = choice == choices[0]
                traces.append(trace)
                choice_of.append(choice)
                costs.append(cost)
    speeds = [reference / one for cost in costs for one in cost] or [1.0]
    ends = [math.log10(min(speeds) * 0.97), math.log10(max(speeds) * 1.03)]
    ticks = speed_ticks(max(speeds))
    figure = go.Figure(traces)
    speed = {
        "xaxis.type": "log",
        "xaxis.title.text": "Speed-up by FLOPs (log scale)",
        "xaxis.tickmode": "array",
        "xaxis.range": ends,
    }
    gflops = {
        "xaxis.type": "linear",
        "xaxis.title.text": "GFLOPs a row",
        "xaxis.tickmode": "auto",
        "xaxis.autorange": "reversed",
    }
    menus = [
        menu(
            1.0,
            1.0,
            [
                ("speed-up", "update", [{"x": [_speeds(cost, reference) for cost in costs]}, speed]),
                ("GFLOPs", "update", [{"x": [rounded(cost) for cost in costs]}, gflops]),
            ],
        )
    ]
    if len(choices) > 1:
        shown = [(CHOICES.get(c, c), "restyle", [{"visible": [one == c for one in choice_of]}]) for c in choices]
        menus.append(menu(0.0, 1.0, shown))
    figure.update_layout(
        height=520,
        margin={"t": 56},
        updatemenus=menus,
        hovermode="closest",
        xaxis={
            "type": "log",
            "range": ends,
            "title": {"text": speed["xaxis.title.text"]},
            "tickmode": "array",
            "tickvals": ticks,
            "ticktext": [f"{tick:g}x" for tick in ticks],
        },
        yaxis={"title": {"text": metric_title(metric)}},
    )
    return figure


def _line_traces(
    line: SeedGroup, series: Series, choice: str, metric: str, reference: float
) -> list[tuple[Any, list[float]]]:
    """The band, the line and the operating points, each with what its points cost (GFLOPs)."""
    import plotly.graph_objects as go

    policies = " / ".join(dict.fromkeys(run.policy_of(choice) for run in line.tested))
    head = f"<b>{wrapped(line.name, 44)}</b> ({plain(policies)})"
    shared = {"name": plain(line.name), "legendgroup": line.name, "hovertemplate": "%{hovertext}<extra></extra>"}
    found = []
    cost = [float(c) for c in series.gflops]
    band = series.metric
    if band.low is not None and band.high is not None and len(cost) > 1:
        there_and_back = [*cost, *reversed(cost)]
        outline = go.Scatter(
            x=_speeds(there_and_back, reference),
            y=rounded([*band.high, *reversed(band.low)]),
            fill="toself",
            fillcolor=line.style.rgba(0.22),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=line.name,
        )
        found.append((outline, there_and_back))
    single = len(cost) == 1
    curve = go.Scatter(
        x=_speeds(cost, reference),
        y=rounded(band.mean),
        mode="markers" if single else "lines",
        line={"color": line.style.colour, "dash": line.style.dash, "width": 2.5},
        marker={"color": line.style.colour, "symbol": line.style.symbol, "size": 10},
        hovertext=[head + _curve_words(series, at, metric, reference) for at in range(len(cost))],
        **shared,
    )
    found.append((curve, cost))
    marked = line.marked(choice)
    if marked:
        points = go.Scatter(
            x=_speeds([p.gflops for p in marked], reference),
            y=rounded([p.metric for p in marked]),
            mode="markers",
            marker={
                "color": line.style.colour,
                "symbol": line.style.symbol,
                "size": 10,
                "line": {"color": "#ffffff", "width": 1.2},
            },
            showlegend=False,
            hovertext=[head + _marked_words(point, metric, reference) for point in marked],
            **shared,
        )
        found.append((points, [p.gflops for p in marked]))
    return found


def _curve_words(series: Series, at: int, metric: str, reference: float) -> str:
    low, high = (float(end) for end in series.thresholds[at])
    shares = None if series.shares is None else series.shares[at]
    ends = ends_words(series.metric, at)
    return _words(
        f"{metric} {series.metric.mean[at]:.4f}{ends}",
        [low, high],
        series.gflops[at],
        series.layers[at],
        shares,
        reference,
    )


def _marked_words(point: MarkedPoint, metric: str, reference: float) -> str:
    first = f"chosen for {point.target:g}x by layers<br>{metric} {point.metric:.4f}"
    ends = [min(point.thresholds), max(point.thresholds)]
    return _words(first, ends, point.gflops, point.layers, point.shares, reference)


def _words(first: str, thresholds: list[float], gflops: float, layers: float, shares: Any, reference: float) -> str:
    low, high = (f"{end:.4g}" if end < 1e29 else "infinite" for end in thresholds)
    parts = [
        first,
        f"threshold {low}" if low == high else f"thresholds {low} to {high}",
        f"{reference / gflops:.2f}x by FLOPs ({gflops:.3g} GFLOPs)",
        f"{layers:.2f}x by its own layers",
    ]
    if shares is not None and len(shares) > 1:
        parts.append("% at each exit: " + " ".join(f"{100 * share:.0f}" for share in shares))
    return "<br>" + "<br>".join(parts)


def _speeds(gflops: Sequence[float], reference: float) -> list[float]:
    return rounded([reference / cost for cost in gflops])
