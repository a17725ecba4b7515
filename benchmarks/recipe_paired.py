"""Two trainings row by row: which of them answers the test rows better, over tasks and seeds.

Shapes: N test rows.
"""

from __future__ import annotations

import base64
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mebert.metrics.bootstrap import Interval, bootstrap_values, percentiles

Result = dict[str, Any]  # of one cell, as `recipe.py` writes it
RECOMMENDED, OWN_RULE = "self_heads_10", "stacked"
KEPT = (OWN_RULE, "entropy", "edr")  # rules whose answers are kept row by row
LAST = "last"  # no rule: every row runs to the last exit
ROUNDS, LEVELS = 1000, 255


@dataclass(frozen=True)
class Against:
    """The first training's accuracy minus the second's, at one speed-up."""

    mean: float  # over the tasks
    interval: Interval  # 95 %, bootstrap over test rows; rows of a task are drawn together for both and for all seeds
    differences: dict[tuple[str, int], float]  # of each task and seed
    p_value: float | None  # Wilcoxon's signed-rank test over tasks and seeds, two-sided; None below six pairs


def pack(rows: Any) -> str:
    """How likely each row (N,) is answered rightly, from 0 to 1 in steps of 1/255, as text."""
    levels = np.rint(LEVELS * np.asarray(rows)).astype(np.uint8)
    return base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode()


def unpack(text: str) -> np.ndarray:
    """What `pack` made a text of, (N,)."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8) / LEVELS


def liked(result: Result, speed: float) -> str:
    """The rule, of those with one threshold for all exits, with the best accuracy on validation rows at a speed-up."""
    values = {name: rule["val_at"][f"{speed:g}"] for name, rule in result["rules"].items() if "per exit" not in name}
    return str(max((name for name, value in values.items() if value is not None), key=lambda name: values[name]))


def at_speed(result: Result, speed: float, rule: str = OWN_RULE) -> float:
    """The accuracy on test rows at a speed-up by a rule (`LAST`: of the last exit); with one exit, that exit's."""
    if not result["rules"] or rule == LAST:
        return float(result["exits"][-1])
    return float(result["rules"][rule]["at"][f"{speed:g}"])


def rows_at(result: Result, speed: float, rule: str = OWN_RULE) -> np.ndarray:
    """How likely each test row (N,) is answered rightly, as `at_speed`; of the rules in `KEPT` and `LAST`."""
    right = result["right"]
    return unpack(right[rule][f"{speed:g}"] if result["rules"] and rule != LAST else right[LAST])


def against(
    pairs: Sequence[tuple[Result, Result]], speed: float, rules: tuple[str, str] = (OWN_RULE, OWN_RULE)
) -> Against:
    """Compare two trainings on the cells that both have, in pairs of one task and seed, at a speed-up.

    `rules` are those that the first and the second are read by, as in `at_speed`.
    """
    from scipy.stats import wilcoxon

    rows: dict[str, list[np.ndarray]] = {}
    differences = {}
    for first, second in pairs:
        rows.setdefault(first["task"], []).append(rows_at(first, speed, rules[0]) - rows_at(second, speed, rules[1]))
        difference = at_speed(first, speed, rules[0]) - at_speed(second, speed, rules[1])
        differences[first["task"], first["seed"]] = difference
    drawn = []
    for number, each in enumerate(rows.values()):
        mean = np.mean(each, axis=0)
        drawn.append(bootstrap_values([partial(_mean_of_drawn, mean)], len(mean), ROUNDS, number)[0])
    interval = percentiles(np.mean(drawn, axis=0))
    assert interval is not None
    by_task = [statistics.mean(v for (task, _), v in differences.items() if task == name) for name in rows]
    values = list(differences.values())
    p_value = float(wilcoxon(values).pvalue) if len(values) >= 6 and any(values) else None
    return Against(statistics.mean(by_task), interval, differences, p_value)


def _mean_of_drawn(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The means (R,) of values (N,) drawn so often, (R, N)."""
    return np.asarray(counts @ values / counts.sum(1))
