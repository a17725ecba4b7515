"""A run as `compare` reads it from its folder, tested or not.

Shapes: N rows, E exits.
"""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mebert.commands.compare.settings import flat, recipe_of, task_of
from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord, replay
from mebert.metrics.elue import Points
from mebert.metrics.record_files import load_record
from mebert.storage.evaluation_file import read_evaluation
from mebert.storage.run_folder import RunFolder, newest_run
from mebert.storage.thresholds import Threshold, numbers_of, read_threshold

REQUIRED = ("model", "data")  # sections of config.yaml


@dataclass(frozen=True)
class CurveRow:
    """One row of curve.csv."""

    threshold: Threshold
    target: float | None  # the speed-up by layers that it was chosen for
    metric: float
    layers: float  # speed-up by layers, against all layers of this run
    gflops: float  # mean cost of a row in 1e9 FLOPs
    shares: list[float] | None = None  # of the rows that left at each exit, (E,); None where unknown


@dataclass
class RunView:
    """One run; without a test its evaluation and policy are empty."""

    folder: Path
    number: int  # position among the runs that were given, from 1
    settings: dict[str, str]  # its configuration (`flat`)
    recipe: str  # name of its module's class, without the ending
    task: str  # the data that it was trained and tested on
    seed: int | None  # of the training
    evaluation: dict[str, Any] = field(default_factory=dict)  # the content of evaluation.json
    policy: str = ""  # the policy to compare at
    record: ExitRecord | None = None  # outputs of each exit for each test row; None without outputs.safetensors
    label_names: list[str] = field(default_factory=list)  # of the record; empty where it has none
    logged: list[dict[str, float]] = field(default_factory=list)  # the rows of metrics.csv, numbers alone

    @property
    def outputs(self) -> ExitRecord:
        """The record of a run that has one."""
        assert self.record is not None
        return self.record

    @property
    def metric(self) -> str:
        """Name of the main metric."""
        return str(self.evaluation["metric"])

    @property
    def exit_layers(self) -> list[int]:
        """The layer of each exit, (E,)."""
        return [row["layer"] for row in self.evaluation["exits"]]

    @property
    def area(self) -> float | None:
        """The area under the policy's curve; None where it was not computed."""
        compared = self.evaluation.get("policies", {}).get(self.policy, {})
        found = compared.get("area", self.evaluation.get("area_under_curve", {}).get(self.policy))
        return None if found is None else float(found)

    @property
    def test_command(self) -> str:
        """The command that tests the run's best checkpoint."""
        return shlex.join(["python", "-m", "mebert", "test", str(self.folder)])

    @cached_property
    def rows(self) -> dict[str, list[CurveRow]]:
        """The rows of curve.csv by policy, without shares; `fixed` has all samples at one exit."""
        path = self.folder / "curve.csv"
        if not self.evaluation or not path.is_file():
            return {}
        found: dict[str, list[CurveRow]] = {}
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    gflops = float(self.evaluation["plain_gflops"]) / float(row["speedup_flops"])
                    target = float(row["target"]) if row["target"] else None
                    values = (
                        read_threshold(row["threshold"]),
                        target,
                        float(row[self.metric]),
                        float(row["speedup_layers"]),
                    )
                    found.setdefault(row["policy"], []).append(CurveRow(*values, gflops))
        except (KeyError, TypeError, ValueError, ZeroDivisionError, csv.Error) as error:
            raise UserError(f"{path} cannot be read as a curve: {error!r}; test the run again") from error
        return found

    def policy_of(self, choice: str) -> str:
        """The name of the policy for `own`, `best` or a name."""
        if choice == "own" or not self.evaluation:
            return self.policy
        return self.evaluation.get("best_policy") or self.policy if choice == "best" else choice

    def curve(self, choice: str) -> list[CurveRow]:
        """The curve of a policy by rising cost; the exits' where it has none, such as a fixed exit's."""
        name = self.policy_of(choice) if self.rows.get(self.policy_of(choice)) else "fixed"
        rows = [row for row in self.rows.get(name, []) if row.target is None]
        return self._with_shares(sorted(rows, key=lambda row: (row.gflops, row.metric)), name)

    def operating_points(self, choice: str) -> list[CurveRow]:
        """The points at thresholds from validation data, by rising speed."""
        name = self.policy_of(choice)
        rows = [row for row in self.rows.get(name, []) if row.target is not None]
        return self._with_shares(sorted(rows, key=lambda row: row.target or 0.0), name)

    def cost_curve(self) -> Points:
        """GFLOPs and metric of the policy's curve, without order; empty where none was written.

        As under the area: where the policy cannot leave at the first exit, its curve goes on to all samples there.
        """
        curve, fixed = (
            [(row.gflops, row.metric) for row in self.rows.get(name, []) if row.target is None]
            for name in (self.policy, "fixed")
        )
        first = min(fixed, default=None)
        return [*curve, first] if curve and first is not None and first[0] < min(curve)[0] else curve

    def _with_shares(self, rows: Sequence[CurveRow], policy: str) -> list[CurveRow]:
        if self.record is None or (policy != "fixed" and policy not in self.record.scores):
            return list(rows)
        exits = self.record.num_exits
        found = []
        for row in rows:
            if policy == "fixed":
                shares = [float(e + 1 == round(numbers_of(row.threshold)[0])) for e in range(exits)]
            else:
                taken = replay(self.record.scores[policy], row.threshold)
                shares = (taken.bincount(minlength=exits).double() / max(1, len(taken))).tolist()
            found.append(replace(row, shares=shares))
        return found


def read_run(given: str | Path, number: int = 1, policy: str | None = None, tested: bool = True) -> RunView:
    """Read one run from its folder, or the newest tested run from that of an experiment.

    `policy` is a name, None for the run's own, or `best` for the one with the largest area on validation data. Without
    `tested` a run that has evaluation.json or metrics.csv is enough.
    """
    files = RunFolder(_find(Path(given), tested))
    config = _read(files.config)
    evaluation = read_evaluation(files.evaluation) if files.evaluation.is_file() else {}
    tested_rows = evaluation and files.outputs.is_file()
    record, about = load_record(files.outputs) if tested_rows else (None, dict[str, Any]())
    try:
        seed, recipe, task = config.get("seed_everything"), recipe_of(config), task_of(config["data"])
        run = RunView(files.path, number, flat(config), recipe, task, seed, evaluation, record=record)
        run.label_names = [str(name) for name in about.get("label_names") or ()]
        if not tested and files.metrics.is_file():
            with _readable(files.metrics), files.metrics.open(newline="", encoding="utf-8") as file:
                run.logged = [_numbers(row) for row in csv.DictReader(file)]
        if evaluation:
            run.policy = _policy(run, policy, tested)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{files.path} is not the folder of a run of mebert: its files lack {error}") from error
    return run


def _find(given: Path, tested: bool) -> Path:
    if not given.is_dir():
        raise UserError(f"{given} is not a folder; give the folder of a run, such as runs/<experiment>/version_0")

    def missing(path: Path) -> list[str]:
        run = RunFolder(path)
        needed = [[run.config], *([[run.evaluation], [run.outputs]] if tested else [[run.evaluation, run.metrics]])]
        return [", ".join(f.name for f in files) for files in needed if not any(f.is_file() for f in files)]

    if given.absolute().name == "model" and RunFolder.of_model(given).config.is_file():
        given = given.parent
    if not missing(given):
        return given
    runs = [path for path in given.glob("*") if not missing(path)]
    if runs:
        return newest_run([path for path in runs if RunFolder(path).evaluation.is_file()] or runs)
    if not RunFolder(given).config.is_file():
        raise UserError(f"{given} is not the folder of a run: it has no config.yaml, and no run in it")
    raise UserError(
        f"{given} was not tested (it lacks {', '.join(missing(given))}): "
        f"python -m mebert test {shlex.quote(str(given))} and then give the folder of that test"
    )


def _read(path: Path) -> dict[str, Any]:
    """The mapping in a configuration."""
    with _readable(path):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    lost = [key for key in REQUIRED if not isinstance(content, dict) or key not in content]
    if lost:
        raise UserError(f"{path} lacks {lost[0]}: mebert did not write it, or not whole; test the run again")
    return content


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RecursionError, yaml.YAMLError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}); test the run again") from error


def _policy(run: RunView, policy: str | None, tested: bool) -> str:
    own = str(run.evaluation["policy"])
    if policy is None:
        return own
    if policy == "best":
        return str(run.evaluation.get("best_policy") or own)
    scored = run.record.scores if run.record else {}
    known = dict.fromkeys(scored if tested else [*run.rows, *scored])
    if policy not in known:
        raise UserError(f"{run.folder} has nothing about the policy {policy!r}; choose of {', '.join(known)}, or best")
    return policy


def _numbers(row: dict[str, str]) -> dict[str, float]:
    """The cells of a row that are numbers."""
    found = {}
    for name, text in row.items():
        try:
            found[name] = float(text)
        except (TypeError, ValueError):
            continue
    return {name: value for name, value in found.items() if not math.isnan(value)}
