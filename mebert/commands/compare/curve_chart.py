"""The chart of the metric against speed, for the runs of one task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from mebert.commands.compare.chart_parts import HEAD, menu, metric_title, rounded, wrapped
from mebert.commands.compare.seed_groups import SeedGroup
from mebert.report.page import plain

CHOICES = {"own": "own rule", "entropy": "entropy", "best": "best rule"}
"""Policies that the curves can be drawn for, and the labels of their buttons."""

TICKS = (1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 24, 48)
CROWDED = {1.2: 8, 1.5: 16}  # ticks that touch their neighbours on a phone if the axis goes further than this


def reference_gflops(groups: Sequence[SeedGroup]) -> float:
    """The cost that speed-ups count against: the most expensive plain model's."""
    return max(float(run.evaluation["plain_gflops"]) for group in groups for run in group.tested)


def speed_ticks(highest: float) -> list[float]:
    """Ticks of an axis of speed-ups."""
    return [tick for tick in TICKS if tick <= highest * 1.02 and highest <= CROWDED.get(tick, highest)]


def curve_chart(groups: Sequence[SeedGroup], metric: str, choices: Sequence[str]) -> Any:
    """Metric against speed for each group: its line, its band over seeds, and its operating points."""
    import plotly.graph_objects as go

    reference = reference_gflops(groups)
    drawn = [
        (choice, cost, trace)
        for choice in choices
        for group in groups
        for cost, trace in _traces(group, choice, metric, reference)
    ]
    costs = [cost for _, cost, _ in drawn]
    speeds = [rounded([reference / one for one in cost]) for cost in costs]
    figure = go.Figure()
    for (choice, _, trace), x in zip(drawn, speeds, strict=True):
        figure.add_scatter(**trace, x=x, visible=choice == choices[0])
    every = [reference / one for cost in costs for one in cost] or [1.0]
    ends = [math.log10(min(every) * 0.97), math.log10(max(every) * 1.03)]
    ticks = speed_ticks(max(every))
    by_speed = {"type": "log", "title.text": "Speed-up by FLOPs (log scale)", "tickmode": "array", "range": ends}
    by_cost = {"type": "linear", "title.text": "GFLOPs a row", "tickmode": "auto", "autorange": "reversed"}
    axes: dict[str, Any] = {"speed-up": (speeds, by_speed), "GFLOPs": ([rounded(cost) for cost in costs], by_cost)}
    buttons = [
        (label, "update", [{"x": xs}, {f"xaxis.{name}": value for name, value in axis.items()}])
        for label, (xs, axis) in axes.items()
    ]
    menus = [menu(1.0, 1.0, buttons)]
    if len(choices) > 1:
        visible = {choice: [one == choice for one, _, _ in drawn] for choice in choices}
        shown = [(CHOICES.get(c, c), "restyle", [{"visible": seen}]) for c, seen in visible.items()]
        menus.append(menu(0.0, 1.0, shown))
    figure.update_layout(height=520, margin={"t": 56}, updatemenus=menus, hovermode="closest")
    figure.update_xaxes({**by_speed, "tickvals": ticks, "ticktext": [f"{tick:g}x" for tick in ticks]})
    figure.update_yaxes(title={"text": metric_title(metric)})
    return figure


def _traces(
    group: SeedGroup, choice: str, metric: str, reference: float
) -> Iterator[tuple[list[float], dict[str, Any]]]:
    """Yield the band, the line and the operating points, each as the costs of its points and a trace without x."""
    series = group.series(choice)
    if series is None:
        return
    style, band = group.style, series.metric
    policies = " / ".join(dict.fromkeys(run.policy_of(choice) for run in group.tested))
    head = f"<b>{wrapped(group.name, HEAD)}</b> ({plain(policies)})<br>"
    shared = {"name": plain(group.name), "legendgroup": group.name, "hovertemplate": "%{hovertext}<extra></extra>"}
    marker = {"color": style.colour, "symbol": style.symbol, "size": 10}
    cost = series.gflops.tolist()

    def hover(first: str, thresholds: Sequence[float], gflops: float, layers: float, shares: Sequence[float]) -> str:
        low, high = (f"{end:.4g}" if end < 1e29 else "infinite" for end in (min(thresholds), max(thresholds)))
        lines = [
            head + first,
            f"threshold {low}" if low == high else f"thresholds {low} to {high}",
            f"{reference / gflops:.2f}x by FLOPs ({gflops:.3g} GFLOPs)",
            f"{layers:.2f}x by its own layers",
        ]
        if len(shares) > 1:
            lines.append("% at each exit: " + " ".join(f"{100 * share:.0f}" for share in shares))
        return "<br>".join(lines)

    if band.low is not None and band.high is not None and len(cost) > 1:
        outline: dict[str, Any] = {
            "fill": "toself",
            "fillcolor": style.rgba(0.22),
            "line": {"width": 0},
            "mode": "lines",
        }
        outline |= {"hoverinfo": "skip", "showlegend": False, "legendgroup": group.name}
        yield [*cost, *reversed(cost)], outline | {"y": rounded([*band.high, *reversed(band.low)])}
    texts = []
    for at, gflops in enumerate(cost):
        first = f"{metric} {band.mean[at]:.4f}{band.ends_text(at)}"
        shares = () if series.shares is None else series.shares[at].tolist()
        texts.append(hover(first, series.thresholds[at].tolist(), gflops, series.layers[at], shares))
    line: dict[str, Any] = {"mode": "lines" if len(cost) > 1 else "markers", "marker": marker}
    line["line"] = {"color": style.colour, "dash": style.dash, "width": 2.5}
    yield cost, shared | line | {"y": rounded(band.mean), "hovertext": texts}
    if points := group.operating_points(choice):
        texts = []
        for point in points:
            first = f"chosen for {point.target:g}x by layers<br>{metric} {point.metric:.4f}"
            texts.append(hover(first, point.thresholds, point.gflops, point.layers, point.shares or ()))
        edged = {"marker": marker | {"line": {"color": "#ffffff", "width": 1.2}}, "mode": "markers"}
        values = {"y": rounded([point.metric for point in points]), "showlegend": False, "hovertext": texts}
        yield [point.gflops for point in points], shared | edged | values
