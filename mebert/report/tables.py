"""All tables of an evaluation, for `report.md` and `--verbose`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rich.table import Table

from mebert.exit_predictor.report import PredictionReport
from mebert.metrics.curve import CurvePoint
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import score_to_choose
from mebert.report.class_tables import class_tables
from mebert.report.evaluation import Evaluation
from mebert.report.layout import console, print_table, report_table
from mebert.report.summary import NO_WALL_CLOCK, wall_clock
from mebert.storage.thresholds import threshold_text

AGREES = {
    False: "share of predictions that are the full model's",
    True: "share of the pairs of a question's answers that are in the full model's order",
}
CURVE_STEPS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)


def evaluation_tables(evaluation: Evaluation) -> list[tuple[Table, int]]:
    """Everything that an evaluation holds, each table with the number of columns that identify a row."""
    found = [(exit_table(evaluation), 2), *((table, 1) for table in class_tables(evaluation))]
    if evaluation.curves:
        found.append((curve_table(evaluation), 1))
    if any(evaluation.points.values()):
        found += [(operating_table(evaluation), 2), (exit_share_table(evaluation), 2)]
    if evaluation.policies:
        found.append((policy_table(evaluation), 1))
    if evaluation.groups:
        found.append((exits_by_difficulty_table(evaluation), 1 + (len(evaluation.groups) > 1)))
    if evaluation.predictions:
        found.append((prediction_table(evaluation.predictions, evaluation.metric, evaluation.split), 1))
    return found


def print_evaluation(evaluation: Evaluation) -> None:
    """Print everything that an evaluation holds."""
    out = console()
    for table, keys in evaluation_tables(evaluation):
        print_table(table, out, keys)


def exit_table(evaluation: Evaluation) -> Table:
    """Metrics and cost of every exit."""
    title = f"Exits: every sample leaves there ({evaluation.split}, {evaluation.samples:,} samples)"
    plain = f"The plain model (all layers, last head alone) costs {_gflops(evaluation.plain_gflops)} GFLOPs."
    names = list(evaluation.exit_metrics)
    table = report_table(title, [], ["exit", "layer", *names, "GFLOPs", "speed-up layers", "FLOPs"], plain)
    for e, point in enumerate(evaluation.fixed):
        cells = [str(e + 1), str(evaluation.exit_layers[e])]
        cells += [f"{evaluation.exit_metrics[name][e]:.4f}" for name in names]
        table.add_row(*cells, _gflops(evaluation.gflops[e]), *_times(point.speedup_layers, point.speedup_flops))
    return table


def curve_table(evaluation: Evaluation) -> Table:
    """The whole accuracy-speed curve of each policy, at equal steps of speed-up by layers."""
    fastest = max(p.speedup_layers for p in evaluation.fixed)
    steps = [s for s in CURVE_STEPS if s < fastest * 0.999] + [fastest]
    table = report_table(
        f"Accuracy-speed curve: {evaluation.metric} at a speed-up by layers ({evaluation.split})",
        ["policy"],
        [*(f"{step:.3g}x" for step in steps), "area"],
        "Between two thresholds by straight line. Area: mean over the share of layers run.",
    )
    for name, points in evaluation.curves.items():
        # Not every policy can leave at the first exit: beyond its last point a curve has no value.
        last = points[-1].speedup_layers * 1.001
        cells = [f"{metric_at(points, step):.4f}" if step <= last else "-" for step in steps]
        table.add_row(name, *cells, f"{evaluation.area(name):.4f}")
    return table


def metric_at(points: Sequence[CurvePoint], speedup: float) -> float:
    """A curve's metric at a speed-up by layers, linear between its points (slow to fast), then the last point's."""
    for slower, faster in pairwise(points):
        if speedup <= faster.speedup_layers:
            span = faster.speedup_layers - slower.speedup_layers
            share = 1.0 if span <= 0 else max(0.0, (speedup - slower.speedup_layers) / span)
            return slower.metric + share * (faster.metric - slower.metric)
    return points[-1].metric


def operating_table(evaluation: Evaluation) -> Table:
    """The chosen operating points of each policy, then the oracle."""
    measured, oracle = bool(evaluation.wall_setting), evaluation.oracle
    every = [point for points in evaluation.points.values() for point in points]
    caption = []
    if any(point.interval for point in every):
        caption.append(
            "95 % interval: what another draw of as many samples would change (not another seed). "
            f"Agrees: {AGREES[evaluation.metric in RANKING_METRICS]}."
        )
    if oracle is not None:
        caption.append("* each sample at its earliest right exit: an upper bound, not a policy.")
    if measured:
        caption.append(f"Wall clock: {evaluation.wall_setting}; ± is half the range of the rounds.")
        if any(point.speedup_wall is None for point in every):
            caption.append(NO_WALL_CLOCK)
    columns = ["target", "threshold", evaluation.metric, "95 % interval", "agrees"]
    columns += ["speed-up layers", "95 % interval", "FLOPs"]
    table = report_table(
        f"Operating points: thresholds chosen on validation data ({evaluation.split})",
        ["policy"],
        [*columns, *(["wall clock"] if measured else [])],
        "\n".join(caption) or None,
    )
    if (current := evaluation.current) is not None:
        table.add_row(*_point_cells(current.policy, current, threshold_text(current.threshold), measured, "in use"))
        table.add_section()
    for name, points in evaluation.points.items():
        for point in points:
            table.add_row(*_point_cells(name, point, threshold_text(point.threshold), measured))
        table.add_section()
    if oracle is not None:
        table.add_row(*_point_cells("oracle *", oracle, "", measured))
    return table


def exit_share_table(evaluation: Evaluation) -> Table:
    """The share of samples that leave at each exit, for each operating point."""
    columns = ["target", *(str(e + 1) for e in range(len(evaluation.exit_layers)))]
    table = report_table(f"% of the samples that leave at each exit ({evaluation.split})", ["policy"], columns)
    for name, points in evaluation.points.items():
        for point in points:
            shares = [f"{100 * share:.0f}" if share else "-" for share in point.shares or []]
            table.add_row(name, f"{point.target:g}x", *shares)
        table.add_section()
    return table


def policy_table(evaluation: Evaluation) -> Table:
    """Every policy that was compared, the best on validation data first."""
    results = evaluation.policies
    chosen = any(result.val_area is not None for result in results.values())
    targets = [f"{target:g}x" for target in next(iter(results.values())).at]
    table = report_table(
        f"Policies on this model: {evaluation.metric} at a speed-up by layers ({evaluation.split})",
        ["policy"],
        [*targets, "ELUE", "area", *(["area on validation"] if chosen else [])],
        "* the model's own. Thresholds here give that very speed on these texts, which needs no labels; what else "
        "a policy chooses (temperatures, weights, lambda) comes from validation data. ELUE: mean difference to the "
        "model cut after each exit's layer, at the same FLOPs.",
    )
    for name in sorted(results, key=lambda n: -score_to_choose(results[n].val_area)):
        result = results[name]
        cells = ["-" if value is None else f"{value:.4f}" for value in result.at.values()]
        last = ["" if result.val_area is None else f"{result.val_area:.4f}"] if chosen else []
        cells += [f"{evaluation.elue(result.curve):+.4f}", f"{result.area:.4f}", *last]
        table.add_row(f"{name} *" if name == evaluation.policy else name, *cells)
    return table


def exits_by_difficulty_table(evaluation: Evaluation) -> Table:
    """The share of samples that leave at each exit at the module's own threshold, by difficulty where it is known."""
    point = evaluation.current
    assert point is not None
    by_difficulty, exits = len(evaluation.groups) > 1, len(evaluation.exit_layers)
    columns = ["difficulty"] if by_difficulty else []
    columns += ["samples", evaluation.metric, "mean layers"]
    # Of many exits only the first is called one, so that the table fits.
    columns += [f"exit {e + 1}" if exits <= 6 or e == 0 else str(e + 1) for e in range(exits)]
    table = report_table(
        f"Where {'easy and hard ' if by_difficulty else ''}samples left: {point.policy}, "
        f"threshold {threshold_text(point.threshold)}, {evaluation.metric} {point.metric:.4f}, "
        f"{point.speedup_layers:.2f}x by layers",
        [],
        columns,
    )
    for row in evaluation.groups:
        if row.group == "all" and by_difficulty:
            table.add_section()
        metric = "" if row.metric is None else f"{row.metric:.4f}"
        shares = [f"{share:.0%}" if share else "-" for share in row.shares]
        group = [row.group] if by_difficulty else []
        table.add_row(*group, f"{row.samples:,}", metric, f"{row.mean_layers:.2f}", *shares)
    return table


def prediction_table(reports: Sequence[PredictionReport], metric: str, split: str) -> Table:
    """Predicted exits against those that the policy took, one line for each operating point."""
    kinds = ", ".join(sorted({found.kind for found in reports}))
    frequent = ", ".join(f"{found.most_frequent:.1%}" for found in reports)
    columns = ["coverage", "exact", "within 1", "earlier", "later", "speed-up predicted", "policy"]
    with_metric = reports[0].metric_full is not None
    table = report_table(
        f"Predicted exits against those that the policy takes: {kinds} ({split})",
        ["policy"],
        [*columns, *([f"{metric} predicted", "policy", "full"] if with_metric else [])],
        f"Speed-up by layers. Always the exit that most samples take would be exact for {frequent}.",
    )
    for found in reports:
        origin = found.origin
        name = "" if origin is None else f"{origin.policy} {threshold_text(origin.threshold)}"
        if origin is not None and origin.speedup is not None:
            name += f" ({origin.speedup:g}x)"
        metrics = (found.metric_predicted, found.metric_taken, found.metric_full) if with_metric else ()
        table.add_row(
            name,
            "likeliest" if found.coverage is None else f"{found.coverage:.3f}",
            *(f"{share:.1%}" for share in (found.exact, found.within_one, found.under, found.over)),
            *(f"{speedup:.2f}x" for speedup in (found.speedup_predicted, found.speedup_taken)),
            *("" if value is None else f"{value:.4f}" for value in metrics),
        )
    return table


def _point_cells(name: str, point: CurvePoint, threshold: str, measured: bool, target: str = "") -> list[str]:
    return [
        name,
        target if point.target is None else f"{point.target:g}x",
        threshold,
        f"{point.metric:.4f}",
        "" if point.interval is None else "{:.4f}-{:.4f}".format(*point.interval),
        "" if point.agreement is None else f"{point.agreement:.1%}",
        *_times(point.speedup_layers),
        "" if point.speedup_interval is None else "{:.2f}-{:.2f}x".format(*point.speedup_interval),
        *_times(point.speedup_flops),
        *([wall_clock(point)] if measured else []),
    ]


def _times(*speedups: float | None) -> list[str]:
    return ["" if speedup is None else f"{speedup:.2f}x" for speedup in speedups]


def _gflops(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
