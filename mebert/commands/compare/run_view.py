"""A run as the page shows it: whatever its folder has, tested or not.

Shapes: P points, E exits.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mebert.commands.compare.runs import TestedRun, newest_of, read_values, recipe_of, task_of
from mebert.commands.compare.settings import flat
from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord, replay
from mebert.metrics.record_files import load_record

__all__ = ["Point", "RunView", "read_shown"]


@dataclass(frozen=True)
class Point:
    """One point of a policy's curve.

    Attributes:
        threshold: Of the policy.
        target: The speed-up by layers that it was chosen for, or None.
        metric: The main metric.
        layers: Speed-up by layers, against all layers of this run.
        flops: Speed-up by FLOPs, against its plain model.
        gflops: Mean cost of a row in 1e9 FLOPs.
        shares: Share of the rows that left at each exit, (E,); None where the run has no recorded pass.
    """

    threshold: float
    target: float | None
    metric: float
    layers: float
    flops: float
    gflops: float
    shares: list[float] | None = None


@dataclass
class RunView:
    """One run, from its folder.

    Attributes:
        folder: The run's.
        number: Among those that were given, from 1.
        recipe: Name of its module's class, without the ending.
        task: What it was trained on.
        seed: Of the training, or None.
        settings: Its configuration (`flat`).
        policy: The policy to look at; empty where the run was not tested.
        evaluation: The content of evaluation.json, or None where it was not tested.
        record: What was said of each test row, or None where that file is missing.
        logged: The rows of metrics.csv that hold something, values as numbers.
    """

    folder: Path
    number: int
    recipe: str
    task: str
    seed: int | None
    settings: dict[str, str]
    policy: str = ""
    evaluation: dict[str, Any] | None = None
    record: ExitRecord | None = None
    logged: list[dict[str, float]] = field(default_factory=list)

    @property
    def tested(self) -> dict[str, Any]:
        """The evaluation of a run that has one."""
        assert self.evaluation is not None
        return self.evaluation

    @property
    def area(self) -> float | None:
        """The area under the policy's curve; None where it was not worked out."""
        compared = self.tested.get("policies", {}).get(self.policy, {})
        found = compared.get("area", self.tested.get("area_under_curve", {}).get(self.policy))
        return None if found is None else float(found)

    @property
    def comparable(self) -> TestedRun | None:
        """The run as the paired tests want it; None where something is missing for them."""
        if self.evaluation is None or self.record is None:
            return None
        return TestedRun(self.folder, self.recipe, self.task, self.seed, self.policy, self.evaluation, self.record)

    @cached_property
    def points(self) -> dict[str, list[Point]]:
        """All points of curve.csv by policy, those with a target too; `fixed` is everybody at one exit."""
        path = self.folder / "curve.csv"
        if self.evaluation is None or not path.is_file():
            return {}
        plain, metric = float(self.evaluation["plain_gflops"]), self.evaluation["metric"]
        found: dict[str, list[Point]] = {}
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    threshold, flops = float(row["threshold"]), float(row["speedup_flops"])
                    point = Point(
                        threshold,
                        float(row["target"]) if row["target"] else None,
                        float(row[metric]),
                        float(row["speedup_layers"]),
                        flops,
                        plain / flops,
                        self._shares(row["policy"], threshold),
                    )
                    found.setdefault(row["policy"], []).append(point)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} cannot be read as a curve: {error!r}; test the run again") from error
        return found

    def policy_of(self, choice: str) -> str:
        """The name behind `own`, `best` or a policy's name."""
        if choice == "own" or self.evaluation is None:
            return self.policy
        return self.evaluation.get("best_policy") or self.policy if choice == "best" else choice

    def curve(self, choice: str) -> list[Point]:
        """The curve of a policy from cheap to dear; of a policy that has none, such as a fixed exit, the exits."""
        points = self.points.get(self.policy_of(choice)) or self.points.get("fixed", [])
        return sorted((p for p in points if p.target is None), key=lambda p: (p.gflops, p.metric))

    def operating_points(self, choice: str) -> list[Point]:
        """Where thresholds from validation data led, from slow to fast."""
        points = self.points.get(self.policy_of(choice), [])
        return sorted((p for p in points if p.target is not None), key=lambda p: p.target or 0.0)

    def _shares(self, policy: str, threshold: float) -> list[float] | None:
        if self.record is None or (policy != "fixed" and policy not in self.record.scores):
            return None
        exits = self.record.num_exits
        if policy == "fixed":
            return [float(e + 1 == round(threshold)) for e in range(exits)]
        taken = replay(self.record.scores[policy], threshold)
        counts = taken.bincount(minlength=exits).double() / max(1, len(taken))
        return [float(share) for share in counts]


def read_shown(given: str | Path, number: int, policy: str | None = None) -> RunView:
    """Read one run.

    Args:
        given: The run's folder, or the experiment's, which stands for its newest tested run, else its newest.
        number: Among those that were given.
        policy: As `mebert.commands.compare.runs.read_run`.

    Raises:
        UserError: The folder has nothing to show, a file of it cannot be read, or it has nothing about the policy.
    """
    folder = _run_folder(Path(given))
    config = read_values(folder / "config.yaml")
    evaluation = read_values(folder / "evaluation.json") if (folder / "evaluation.json").is_file() else None
    record = None
    if evaluation is not None and (folder / "outputs.safetensors").is_file():
        record, _ = load_record(folder / "outputs.safetensors")
    try:
        run = RunView(
            folder,
            number,
            recipe_of(config),
            task_of(config["data"]),
            config.get("seed_everything"),
            flat(config),
            evaluation=evaluation,
            record=record,
            logged=_logged(folder / "metrics.csv"),
        )
        if evaluation is not None:
            _ = run.points  # read here, so that a mistake is told here
            run.policy = _policy(run, policy)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder} is not the folder of a run of mebert: its files lack {error}") from error
    return run


def _run_folder(given: Path) -> Path:
    if not given.is_dir():
        raise UserError(f"{given} is no folder; give the folder of a run, such as runs/<experiment>/version_0")
    if (given / "config.yaml").is_file():
        if any((given / name).is_file() for name in ("evaluation.json", "metrics.csv")):
            return given
        raise UserError(f"{given} has nothing to show: it lacks evaluation.json and metrics.csv; was it stopped early?")
    runs = [path for path in given.glob("*") if (path / "config.yaml").is_file()]
    runs = [path for path in runs if any((path / name).is_file() for name in ("evaluation.json", "metrics.csv"))]
    if not runs:
        raise UserError(f"{given} is not the folder of a run: it has no config.yaml, and no run in it")
    return newest_of([path for path in runs if (path / "evaluation.json").is_file()] or runs)


def _policy(run: RunView, policy: str | None) -> str:
    own = str(run.tested["policy"])
    if policy is None:
        return own
    if policy == "best":
        return str(run.tested.get("best_policy") or own)
    known = dict.fromkeys([*run.points, *(run.record.scores if run.record else ())])
    if policy not in known:
        raise UserError(f"{run.folder} has nothing about the policy {policy!r}; choose of {', '.join(known)}, or best")
    return policy


def _logged(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found = {}
            for name, text in row.items():
                try:
                    value = float(text)
                except (TypeError, ValueError):
                    continue
                if not math.isnan(value):
                    found[name] = value
            rows.append(found)
    return rows
