"""The tables that a run prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich.table import Table

from mebert.metrics.curve import CurvePoint
from mebert.report.evaluation import Evaluation
from mebert.report.exit_prediction import prediction_table
from mebert.report.layout import console, print_pairs, print_table, report_table

__all__ = [
    "console",
    "curve_table",
    "exit_share_table",
    "exit_table",
    "exits_by_difficulty_table",
    "metric_at",
    "operating_table",
    "policy_table",
    "print_evaluation",
    "print_pairs",
]


CURVE_STEPS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)


def print_evaluation(evaluation: Evaluation) -> None:
    """Everything that an evaluation holds, as tables."""
    out = console()
    print_table(exit_table(evaluation), out, keys=2)
    if evaluation.curves:
        print_table(curve_table(evaluation), out)
    if any(evaluation.points.values()):
        print_table(operating_table(evaluation), out, keys=2)
        print_table(exit_share_table(evaluation), out, keys=2)
    if evaluation.policies:
        print_table(policy_table(evaluation), out)
    if evaluation.leaving:
        print_table(exits_by_difficulty_table(evaluation), out, keys=1 + (len(evaluation.leaving) > 1))
    if evaluation.predictions:
        print_table(prediction_table(evaluation.predictions, evaluation.metric, evaluation.split), out)


def exit_table(evaluation: Evaluation) -> Table:
    """Accuracy and cost of every exit."""
    table = report_table(f"Exits: every sample leaves there ({evaluation.split}, {evaluation.samples:,} samples)")
    names = list(evaluation.exit_metrics)
    for column in ["exit", "layer", *names, "GFLOPs", "speed-up layers", "FLOPs"]:
        table.add_column(column, justify="right")
    for e, point in enumerate(evaluation.fixed):
        metrics = [f"{evaluation.exit_metrics[name][e]:.4f}" for name in names]
        table.add_row(
            str(e + 1),
            str(evaluation.exit_layers[e]),
            *metrics,
            _gflops(evaluation.gflops[e]),
            f"{point.speedup_layers:.2f}x",
            f"{point.speedup_flops:.2f}x",
        )
    table.caption = f"The plain model (all layers, last head alone) costs {_gflops(evaluation.plain_gflops)} GFLOPs."
    return table


def curve_table(evaluation: Evaluation) -> Table:
    """The whole accuracy-speed curve of each policy, at equal steps of speed-up by layers, on this split."""
    table = report_table(f"Accuracy-speed curve: {evaluation.metric} at a speed-up by layers ({evaluation.split})")
    fastest = max(p.speedup_layers for p in evaluation.fixed)
    steps = [s for s in CURVE_STEPS if s < fastest * 0.999] + [fastest]
    table.add_column("policy")
    for step in steps:
        table.add_column(f"{step:.3g}x", justify="right")
    table.add_column("area", justify="right")
    for name, points in evaluation.curves.items():
        values = [metric_at(points, step) for step in steps]
        # Not every policy can leave at the first exit: beyond its last point a curve has no value.
        reached = [step <= points[-1].speedup_layers * 1.001 for step in steps]
        cells = [f"{value:.4f}" if there else "-" for value, there in zip(values, reached, strict=True)]
        table.add_row(name, *cells, f"{evaluation.area(name):.4f}")
    table.caption = "Between two thresholds by straight line. Area: mean over the share of layers run."
    return table


def metric_at(points: Sequence[CurvePoint], speedup: float) -> float:
    """A curve's metric at a speed-up, by straight line between its points (which go from slow to fast)."""
    for slower, faster in pairwise(points):
        if speedup <= faster.speedup_layers:
            span = faster.speedup_layers - slower.speedup_layers
            share = 1.0 if span <= 0 else max(0.0, (speedup - slower.speedup_layers) / span)
            return slower.metric + share * (faster.metric - slower.metric)
    return points[-1].metric


def operating_table(evaluation: Evaluation) -> Table:
    """The chosen operating points of each policy, then the oracle."""
    measured = bool(evaluation.wall_setting)
    table = report_table(f"Operating points: thresholds chosen on validation data ({evaluation.split})")
    columns = [
        "policy",
        "target",
        "threshold",
        evaluation.metric,
        "95 % interval",
        "agrees",
        "speed-up layers",
        "FLOPs",
    ]
    for column in columns + (["wall clock"] if measured else []):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name, points in evaluation.points.items():
        for point in points:
            table.add_row(*_point_cells(name, point, measured))
        table.add_section()
    if evaluation.oracle is not None:
        table.add_row(*_point_cells("oracle *", evaluation.oracle, measured))
    caption = []
    if any(point.interval for points in evaluation.points.values() for point in points):
        caption.append(
            "95 % interval: what another draw of as many samples would change (not another seed). "
            "Agrees: share of answers that are the full model's."
        )
    if evaluation.oracle is not None:
        caption.append("* each sample at its earliest right exit: an upper bound, not a policy.")
    if measured:
        caption.append(f"Wall clock: {evaluation.wall_setting}.")
    table.caption = "\n".join(caption) or None
    return table


def exit_share_table(evaluation: Evaluation) -> Table:
    """Where samples left at each operating point."""
    exits = len(evaluation.exit_layers)
    table = report_table(f"% of the samples that leave at each exit ({evaluation.split})")
    for column in ("policy", "target"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for e in range(exits):
        table.add_column(str(e + 1), justify="right")
    for name, points in evaluation.points.items():
        for point in points:
            shares = [f"{100 * share:.0f}" if share else "-" for share in point.shares or []]
            table.add_row(name, f"{point.target:g}x", *shares)
        table.add_section()
    return table


def policy_table(evaluation: Evaluation) -> Table:
    """Every policy that was compared, the best on validation data first."""
    table = report_table(f"Policies on this model: {evaluation.metric} at a speed-up by layers ({evaluation.split})")
    results = evaluation.policies
    chosen = any(result.val_area is not None for result in results.values())
    targets = list(next(iter(results.values())).at)
    table.add_column("policy")
    for column in [*(f"{t:g}x" for t in targets), "ELUE", "area", *(["area on validation"] if chosen else [])]:
        table.add_column(column, justify="right")
    for name in sorted(results, key=lambda n: -(results[n].val_area or 0.0)):
        result = results[name]
        cells = ["-" if value is None else f"{value:.4f}" for value in result.at.values()]
        last = [] if not chosen else ["" if result.val_area is None else f"{result.val_area:.4f}"]
        mark = " *" if name == evaluation.policy else ""
        table.add_row(name + mark, *cells, f"{evaluation.elue(result.curve):+.4f}", f"{result.area:.4f}", *last)
    table.caption = (
        "* the model's own. Thresholds here give that very speed on these texts, which needs no labels; what else "
        "a policy chooses (temperatures, weights, lambda) comes from validation data. ELUE: mean difference to the "
        "model cut after each exit's layer, at the same FLOPs."
    )
    return table


def exits_by_difficulty_table(evaluation: Evaluation) -> Table:
    """Where easy and hard samples left (by difficulty where it is known, else all together)."""
    point = evaluation.current
    assert point is not None
    by_difficulty = len(evaluation.leaving) > 1
    table = report_table(
        f"Where {'easy and hard ' if by_difficulty else ''}samples left: {point.policy}, "
        f"threshold {point.threshold:.4g}, {evaluation.metric} {point.metric:.4f}, "
        f"{point.speedup_layers:.2f}x by layers"
    )
    for column in [*(["difficulty"] if by_difficulty else []), "samples", evaluation.metric, "mean layers"]:
        table.add_column(column, justify="right")
    exits = len(evaluation.exit_layers)
    for e in range(exits):  # of many exits only the first is called one, so that the table fits
        table.add_column(f"exit {e + 1}" if exits <= 6 or e == 0 else str(e + 1), justify="right")
    for row in evaluation.leaving:
        if row.group == "all" and by_difficulty:
            table.add_section()
        cells = [
            f"{row.samples:,}",
            "" if row.metric is None else f"{row.metric:.4f}",
            f"{row.mean_layers:.2f}",
        ]
        shares = [f"{share:.0%}" if share else "-" for share in row.shares]
        table.add_row(*([row.group] if by_difficulty else []), *cells, *shares)
    return table


def _point_cells(name: str, point: CurvePoint, measured: bool) -> list[str]:
    oracle = point.policy == "oracle"
    cells = [
        name,
        "" if point.target is None else f"{point.target:g}x",
        "" if oracle else f"{point.threshold:.4g}",
        f"{point.metric:.4f}",
        "" if point.interval is None else "{:.4f}-{:.4f}".format(*point.interval),
        "" if point.agreement is None else f"{point.agreement:.1%}",
        f"{point.speedup_layers:.2f}x",
        f"{point.speedup_flops:.2f}x",
    ]
    if measured:
        cells.append("" if point.speedup_wall is None else f"{point.speedup_wall:.2f}x")
    return cells


def _gflops(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
