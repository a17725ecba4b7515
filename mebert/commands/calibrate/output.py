"""The table that `calibrate` prints, and the command to run next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mebert.calibration.points import Calibrated
from mebert.calibration.risks import RISKS
from mebert.models import MultiExitModel
from mebert.policies.stored_thresholds import load_policy, stored_point
from mebert.report.layout import print_pairs, print_table, report_table
from mebert.storage.model_spec import ModelSpec
from mebert.storage.thresholds import threshold_text

LARGE_DROP = 0.1  # from here on it may have been meant as a percentage


def print_calibrated(found: Sequence[Calibrated], metric: str, what: str, several: bool = False) -> None:
    """One row per policy and request, and a line for each request that is out of reach; `several` labels a row."""
    table = report_table(
        f"Calibrated on {what}; the full model has {metric} {found[0].full:.4f}",
        ["policy", "asked for"],
        ["threshold", metric, "drop", "speed-up layers", "FLOPs"],
        _caption(found, several),
    )
    table.add_column("guaranteed")
    for row in found:
        if row.point is not None:
            point, bound = row.point, row.guarantee
            guaranteed = "nothing: measured here"
            if bound is not None:
                guaranteed = f"{bound.loss} ≤ {bound.epsilon:g}, {100 * (1 - bound.delta):.4g} % confidence"
                guaranteed += f" (here {bound.measured:.3g})"
                guaranteed = guaranteed if bound.threshold else "the full model, nothing faster"
            numbers = [threshold_text(point.threshold, 6), f"{point.metric:.4f}", f"{row.full - point.metric:.4f}"]
            speeds = [f"{point.speedup_layers:.2f}x", f"{point.speedup_flops:.2f}x"]
            table.add_row(row.policy, str(row.request), *numbers, *speeds, guaranteed)
    if table.row_count:
        print_table(table, keys=2)
    for value in sorted({row.request.value for row in found if row.request.kind == "max_drop"}):
        if value >= LARGE_DROP:
            print(f"Note: max_drop {value:g} allows {metric} to fall by {value:g} (for {value:g} %: {value / 100:g})")
    for row in found:
        if row.point is None:
            print(f"{row.policy} does not reach {row.request} here: at most {row.fastest:.2f}x by layers; not stored")


def print_in_use(folder: str, model: MultiExitModel) -> None:
    """The point at which the saved model is used where none is asked for."""
    spec, policy = ModelSpec.read(folder), load_policy(folder, model)
    if policy is not None:
        point = stored_point(policy, spec.chosen_by, spec.expected)
        print_pairs("In use where no other is asked for:", point.as_lines())


def print_next(name: str, own: str | None, sections: Mapping[str, Mapping[str, Mapping[float, Any]]]) -> None:
    """The command that predicts at the first stored threshold of a model, whose own policy is `own`."""
    section, policies = next(iter(sections.items()))
    policy = own if own is not None and own in policies else next(iter(policies))
    option = "speedup" if section == "operating_points" else "max_drop"
    asked = f"--{option} {next(iter(policies[policy]))!r}" + (f" --policy {policy}" if policy != own else "")
    print_pairs("Next:", {"predict": f"python -m mebert predict {shlex.quote(name)} my.csv {asked} --out out.csv"})


def _caption(found: Sequence[Calibrated], several: bool) -> str | None:
    losses = {row.guarantee.loss for row in found if row.guarantee is not None}
    if not losses:
        return None
    unit = "labels of all samples" if several else "samples"
    lines = [f"{name}: {RISKS[name].meaning}, as a share of all {unit}." for name in sorted(losses)]
    lines.append("A guarantee holds for new samples of the same distribution (docs/calibration.md).")
    if len({row.policy for row in found}) > 1:
        lines.append("Each row is one guarantee: to pick the best of k policies afterwards, ask for delta / k.")
    return "\n".join(lines)
