"""The charts of exits: the metric of each, and where rows leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mebert.commands.compare.chart_parts import HEAD, add_line, menu, metric_title, rounded, wrapped
from mebert.commands.compare.seed_groups import SeedGroup

NAME = 22  # characters in a line of a bar's name, so that a phone has room for the bars


def exit_chart(groups: Sequence[SeedGroup], metric: str) -> Any:
    """The metric if all rows leave at an exit, over the layers."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for group in groups:
        band, layers = group.at_exits(metric), group.exit_layers
        error: dict[str, Any] = {}
        if band.low is not None and band.high is not None:
            above, below = rounded(band.high - band.mean), rounded(band.mean - band.low)
            error = {"error_y": {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "width": 3}}
        head = f"<b>{wrapped(group.name, HEAD)}</b><br>"
        texts = [
            f"{head}layer {layer}: {value:.4f}{band.ends_text(e)}"
            for e, (layer, value) in enumerate(zip(layers, band.mean, strict=True))
        ]
        template = "%{hovertext}<extra></extra>"
        add_line(figure, group, layers, band.mean, hovertext=texts, hovertemplate=template, **error)
    deepest = max(group.exit_layers[-1] for group in groups)
    ticks = {"dtick": 1 if deepest <= 12 else 2, "range": [0.5, deepest + 0.5]}
    figure.update_layout(
        height=420,
        showlegend=True,
        xaxis={"title": {"text": "Layer of the exit"}, **ticks},
        yaxis={"title": {"text": metric_title(metric)}},
    )
    return figure


def exit_share_chart(groups: Sequence[SeedGroup]) -> Any | None:
    """Share of the rows that leave at each exit, a bar for each group, a button for each operating point; or None."""
    import plotly.graph_objects as go
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    points = {group.name: {p.target: p for p in group.operating_points("own") if p.shares} for group in groups}
    targets = sorted({target for of_group in points.values() for target in of_group})
    if not targets:
        return None
    shown = [group for group in groups if points[group.name]]
    layers = sorted({layer for group in shown for layer in group.exit_layers})

    def bars(target: float) -> dict[str, list[Any]]:
        """The bars of the traces, one for each layer, at a target."""
        found: dict[str, list[Any]] = {"x": [], "text": [], "hovertext": []}
        for layer in layers:
            shares, texts = [], []
            for group in shown:
                point = points[group.name].get(target)
                at = dict(zip(group.exit_layers, (point and point.shares) or (), strict=False))
                shares.append(at.get(layer, 0.0))
                leave = f"{100 * shares[-1]:.1f} % leave after layer {layer}"
                head = f"<b>{wrapped(group.name, HEAD)}</b>"
                texts.append(f"{head}<br>{leave}<br>metric {point.metric:.4f}" if point else "")
            found["x"].append([100 * share for share in shares])
            found["text"].append([f"{100 * share:.0f}" if share >= 0.06 else "" for share in shares])
            found["hovertext"].append(texts)
        return found

    # From dark (low cost) to light (high cost), which a colour-blind reader can order, too.
    colours = [to_hex(colormaps["cividis"](at)) for at in np.linspace(0.1, 0.98, len(layers))]
    first = bars(targets[0])
    names = [wrapped(group.name, NAME) for group in shown]
    figure = go.Figure()
    for place, layer in enumerate(layers):
        figure.add_bar(
            **{name: values[place] for name, values in first.items()},
            y=names,
            orientation="h",
            name=f"layer {layer}",
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            marker={"color": colours[place], "line": {"width": 0.5, "color": "#888888"}},
            textfont={"color": "#ffffff" if place < len(layers) / 2 else "#000000"},
            hovertemplate="%{hovertext}<extra></extra>",
        )
    bar_height = max(34, 17 * max(name.count("<br>") + 1 for name in names) + 6)
    figure.update_layout(
        barmode="stack",
        height=110 + bar_height * len(shown),
        margin={"t": 52},
        bargap=0.25,
        showlegend=True,
        legend={"orientation": "h", "traceorder": "normal"},
        xaxis={"title": {"text": "Share of the rows in %"}, "range": [0, 100]},
        yaxis={"autorange": "reversed", "automargin": True},
        updatemenus=[menu(0.0, 1.0, [(f"{target:g}x", "restyle", [bars(target)]) for target in targets])],
    )
    return figure
