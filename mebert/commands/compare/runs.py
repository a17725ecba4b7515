"""A tested run, read from its folder: what it was, what it reached, and what it said of every row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord
from mebert.metrics.record_files import load_record

__all__ = ["TestedRun", "check_comparable", "newest_of", "read_run", "read_values", "recipe_of", "task_of"]


# What is read of a tested run, whatever is asked of it.
EVALUATED = ("policy", "metric", "exits", "plain_gflops", "area_under_curve")
CONFIGURED = ("model", "data")


@dataclass(frozen=True)
class TestedRun:
    """One run and its test.

    Attributes:
        folder: The run's.
        recipe: Name of its module's class.
        task: What it was trained and tested on.
        seed: Of the training; None where the configuration has none.
        policy: The policy to be looked at.
        evaluation: The content of evaluation.json.
        record: What the model and the policies said of each test row.
    """

    __test__ = False  # no test case, whatever pytest thinks of the name

    folder: Path
    recipe: str
    task: str
    seed: int | None
    policy: str
    evaluation: dict[str, Any]
    record: ExitRecord

    @property
    def exit_layers(self) -> list[int]:
        """The layer of each exit, (E,)."""
        return [row["layer"] for row in self.evaluation["exits"]]

    @property
    def metric(self) -> str:
        """Name of the main metric."""
        return str(self.evaluation["metric"])

    @property
    def area(self) -> float | None:
        """The area under the policy's curve; None where it was not worked out."""
        compared = self.evaluation.get("policies", {}).get(self.policy, {})
        found = compared.get("area", self.evaluation["area_under_curve"].get(self.policy))
        return None if found is None else float(found)

    def curve(self) -> list[tuple[float, float]]:
        """GFLOPs and metric of each point of the policy's curve; empty where none was written.

        As under the area: where the policy cannot leave at the first exit, its curve goes on to everybody there.
        """
        path = self.folder / "curve.csv"
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if not row["target"]]
        plain = float(self.evaluation["plain_gflops"])
        points: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            at = (plain / float(row["speedup_flops"]), float(row[self.metric]))
            points.setdefault(row["policy"], []).append(at)
        curve, first = points.get(self.policy, []), min(points.get("fixed", []), default=None)
        return [*curve, first] if curve and first is not None and first[0] < min(curve)[0] else curve


def read_run(given: str | Path, policy: str | None = None) -> TestedRun:
    """Read one run.

    Args:
        given: The run's folder, or the experiment's, which stands for its newest run that was tested.
        policy: Its name; None for the run's own, `best` for the one with the largest area on validation data.

    Raises:
        UserError: It is no folder of a tested run, or has nothing about the policy.
    """
    folder = _tested_folder(Path(given))
    evaluation, config = read_values(folder / "evaluation.json"), read_values(folder / "config.yaml")
    for file, values, names in (("evaluation.json", evaluation, EVALUATED), ("config.yaml", config, CONFIGURED)):
        if lost := [key for key in names if key not in values]:
            raise UserError(
                f"{folder / file} lacks {lost[0]}: it is not what a test of mebert writes; test the run again"
            )
    record, _ = load_record(folder / "outputs.safetensors")
    name = evaluation["policy"] if policy is None else policy
    if policy == "best":
        name = evaluation.get("best_policy") or evaluation["policy"]
    if policy is not None and name not in record.scores:
        raise UserError(
            f"{folder} has nothing about the policy {name!r}; choose of {', '.join(record.scores)}, or best"
        )
    return TestedRun(
        folder,
        recipe=recipe_of(config),
        task=task_of(config["data"]),
        seed=config.get("seed_everything"),
        policy=name,
        evaluation=evaluation,
        record=record,
    )


def check_comparable(runs: Sequence[TestedRun]) -> None:
    """All runs must have been tested on the same rows of the same task.

    Raises:
        UserError: Two were not.
    """
    first = runs[0]
    for other in runs[1:]:
        both = f"{first.folder} and {other.folder} cannot be compared:"
        for what, a, b in (("task", first.task, other.task), ("metric", first.metric, other.metric)):
            if a != b:
                raise UserError(f"{both} their {what} differs ({a}, {b}); give runs of one task")
        one, two = first.record, other.record
        if len(one.labels) != len(two.labels) or not torch.equal(one.index, two.index):
            raise UserError(
                f"{both} they were tested on other rows ({len(one.labels):,} and {len(two.labels):,}); test both on "
                f"the same split: python -m mebert test --config {other.folder}/config.yaml --ckpt_path "
                f"{other.folder}/checkpoints/best.ckpt"
            )
        if not torch.equal(one.labels, two.labels) or one.logits.shape[-1] != two.logits.shape[-1]:
            raise UserError(
                f"{both} the labels of their rows differ, so they were tested on other rows of {first.task}"
            )


def _tested_folder(given: Path) -> Path:
    needed = ("config.yaml", "evaluation.json", "outputs.safetensors")
    if not given.is_dir():
        raise UserError(f"{given} is no folder; give the folder of a run, such as runs/<experiment>/version_0")
    missing = [name for name in needed if not (given / name).is_file()]
    if not missing:
        return given
    runs = [path for path in given.glob("*") if all((path / name).is_file() for name in needed)]
    if runs:
        return newest_of(runs)
    if (given / "config.yaml").is_file():
        raise UserError(
            f"{given} was not tested (it lacks {', '.join(missing)}): "
            f"python -m mebert test --config {given}/config.yaml --ckpt_path {given}/checkpoints/best.ckpt "
            "and then give the folder of that test"
        )
    raise UserError(f"{given} is not the folder of a run: it has no {missing[0]}, and no tested run in it")


def newest_of(runs: Sequence[Path]) -> Path:
    """The newest of an experiment's runs: by number (version_10), or where one has an id of W&B's, by their files' age.

    Args:
        runs: Folders with a config.yaml, at least one.
    """
    numbers = [re.fullmatch(r"version_(\d+)", path.name) for path in runs]
    if all(numbers):
        return max(runs, key=lambda path: int(path.name.removeprefix("version_")))
    return max(runs, key=lambda path: (_written(path), path.name))


def _written(run: Path) -> int:
    """When a run was tested, or else begun, in nanoseconds."""
    files = [run / name for name in ("evaluation.json", "config.yaml")]
    return next(path.stat().st_mtime_ns for path in files if path.is_file())


def read_values(path: Path) -> dict[str, Any]:
    """The content of a JSON or YAML file that holds names and values.

    Raises:
        UserError: It cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}); test the run again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} cannot be read: it holds no names and values; test the run again")
    return content


def recipe_of(config: Mapping[str, Any]) -> str:
    """The name of a configuration's module, without its ending."""
    return str(config["model"]["class_path"]).rpartition(".")[2].removesuffix("Module")


def task_of(data: Mapping[str, Any]) -> str:
    """What the data of a configuration is: its named task, its own files, or the name of its class."""
    init: dict[str, Any] = data.get("init_args") or {}
    if init.get("task"):
        return str(init["task"])
    files = [str(init[name]) for name in ("test_file", "train_file") if init.get(name)]
    if files:
        return files[0]
    return str(data["class_path"]).rpartition(".")[2].removesuffix("DataModule")
