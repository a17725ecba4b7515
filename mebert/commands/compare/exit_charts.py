"""The charts about exits: what each reaches by itself, and where rows leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mebert.commands.compare.chart_parts import ends_words, menu, metric_title, rounded, wrapped
from mebert.commands.compare.seed_groups import MarkedPoint, SeedGroup
from mebert.report.page import plain

__all__ = ["exit_chart", "leaving_chart"]

NAME, HEAD = 22, 44
"""Characters in a line of a bar's name, so that a phone has room for the bars, and of a name under the pointer."""


def exit_chart(lines: Sequence[SeedGroup], metric: str) -> Any:
    """The metric of every exit, if all rows left there, over the layers."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for line in lines:
        band, layers = line.at_exits(metric), line.exit_layers
        error: dict[str, Any] = {}
        if band.low is not None and band.high is not None:
            above, below = rounded(band.high - band.mean), rounded(band.mean - band.low)
            error = {"error_y": {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "width": 3}}
        words = [
            f"layer {layer}: {value:.4f}{ends_words(band, e)}"
            for e, (layer, value) in enumerate(zip(layers, band.mean, strict=True))
        ]
        figure.add_scatter(
            x=layers,
            y=rounded(band.mean),
            name=plain(line.name),
            mode="lines+markers",
            line={"color": line.style.colour, "dash": line.style.dash, "width": 2},
            marker={"symbol": line.style.symbol, "size": 7},
            hovertext=[f"<b>{wrapped(line.name, HEAD)}</b><br>{word}" for word in words],
            hovertemplate="%{hovertext}<extra></extra>",
            **error,
        )
    deepest = max(line.exit_layers[-1] for line in lines)
    ticks = {"dtick": 1 if deepest <= 12 else 2, "range": [0.5, deepest + 0.5]}
    figure.update_layout(
        height=420,
        showlegend=True,
        xaxis={"title": {"text": "Layer of the exit"}, **ticks},
        yaxis={"title": {"text": metric_title(metric)}},
    )
    return figure


def leaving_chart(lines: Sequence[SeedGroup], choice: str = "own") -> Any | None:
    """Share of the rows that leave at each exit, a bar a line; a button for each operating point. None without any."""
    import plotly.graph_objects as go

    marked = {line.name: {p.target: p for p in line.marked(choice) if p.shares} for line in lines}
    targets = sorted({target for of_line in marked.values() for target in of_line})
    if not targets:
        return None
    shown = [line for line in lines if marked[line.name]]
    layers = sorted({layer for line in shown for layer in line.exit_layers})

    def columns(target: float) -> dict[str, list[Any]]:
        """What the traces, one a layer, show at a target."""
        points = [marked[line.name].get(target) for line in shown]
        shares = [[_share(line, point, layer) for line, point in zip(shown, points, strict=True)] for layer in layers]
        return {
            "x": [[100 * s for s in row] for row in shares],
            "text": [[f"{100 * s:.0f}" if s >= 0.06 else "" for s in row] for row in shares],
            "hovertext": [
                [_leaving_words(line, point, layer, s) for line, point, s in zip(shown, points, row, strict=True)]
                for layer, row in zip(layers, shares, strict=True)
            ],
        }

    first = columns(targets[0])
    colours = _ramp(len(layers))
    names = [wrapped(line.name, NAME) for line in shown]
    lines_a_name = max(name.count("<br>") + 1 for name in names)
    figure = go.Figure()
    for place, layer in enumerate(layers):
        figure.add_bar(
            x=first["x"][place],
            y=names,
            orientation="h",
            name=f"layer {layer}",
            text=first["text"][place],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            marker={"color": colours[place], "line": {"width": 0.5, "color": "#888888"}},
            textfont={"color": "#ffffff" if place < len(layers) / 2 else "#000000"},
            hovertext=first["hovertext"][place],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    figure.update_layout(
        barmode="stack",
        height=110 + max(34, 17 * lines_a_name + 6) * len(shown),
        margin={"t": 52},
        bargap=0.25,
        showlegend=True,
        legend={"orientation": "h", "traceorder": "normal"},
        xaxis={"title": {"text": "Share of the rows in %"}, "range": [0, 100]},
        yaxis={"autorange": "reversed", "automargin": True},
        updatemenus=[menu(0.0, 1.0, [(f"{target:g}x", "restyle", [columns(target)]) for target in targets])],
    )
    return figure


def _leaving_words(line: SeedGroup, point: MarkedPoint | None, layer: int, share: float) -> str:
    if point is None:
        return ""
    name = wrapped(line.name, HEAD)
    return f"<b>{name}</b><br>{100 * share:.1f} % leave after layer {layer}<br>metric {point.metric:.4f}"


def _share(line: SeedGroup, point: MarkedPoint | None, layer: int) -> float:
    if point is None or point.shares is None or layer not in line.exit_layers:
        return 0.0
    return point.shares[line.exit_layers.index(layer)]


def _ramp(count: int) -> list[str]:
    """Colours from dark (cheap) to light (dear), in an order that a colour-blind reader sees, too."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["cividis"](at)) for at in np.linspace(0.1, 0.98, count)]
