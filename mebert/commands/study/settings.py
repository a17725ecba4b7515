"""The settings of a study, checked before anything runs.

Three kinds of *fragments* of a run's configuration are merged for each run: the common one (`base`), the task's and the
recipe's. A fragment has the sections of a configuration of `fit`; in `model` and `data`, keys beside `class_path` and
`init_args` count as arguments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mebert.callbacks.default_callbacks import CALLBACKS
from mebert.errors import UserError

__all__ = ["CLASSES", "SECTIONS", "Study"]

CLASSES = ("model", "data")
SECTIONS = (*CLASSES, "trainer", *CALLBACKS)
KEEP = ("results", "models", "all")
RESERVED = ("default_root_dir", "logger")  # of the trainer: where runs write, which the study sets itself
NAME = re.compile(r"[A-Za-z0-9_.-]+")  # of a folder, and of a value of --only


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        name: Name of the study.
        out: Output folder.
        base: Fragment of all runs.
        tasks: Name to fragment.
        recipes: Name to fragment.
        exceptions: (recipe, task) to a fragment that wins over all others.
        seeds: One run for each recipe and task.
        targets: Speed-ups by layers that the report compares at.
        keep: What is kept of a finished run beside its results: `results` nothing, `models` its model, or `all`.
    """

    name: str
    out: Path
    base: dict[str, Any]
    tasks: dict[str, dict[str, Any]]
    recipes: dict[str, dict[str, Any]]
    exceptions: dict[tuple[str, str], dict[str, Any]]
    seeds: tuple[int, ...]
    targets: tuple[float, ...]
    keep: str

    @classmethod
    def checked(
        cls,
        name: str | None,
        out: str | Path | None,
        base: Any,
        tasks: Any,
        recipes: Any,
        seeds: Iterable[int],
        targets: Iterable[float],
        keep: str,
    ) -> Study:
        """A study from the plain values of its YAML.

        Raises:
            UserError: Something is missing, unknown or of the wrong kind; the text names it.
        """
        if name is None:
            raise UserError("name is missing: give the YAML of a study, such as --config configs/study/quick.yaml")
        if not NAME.fullmatch(name):
            raise UserError(f"name is {name!r}: give the study a name of letters, digits, _, . and -")
        if keep not in KEEP:
            raise UserError(f"keep is {keep!r}; use one of: {', '.join(KEEP)}")
        seeds = tuple(seeds)
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise UserError(f"seeds must be different numbers from 0, at least one; got {list(seeds)}")
        targets = tuple(sorted(set(targets)))
        if not targets or not all(1 <= target < math.inf for target in targets):
            raise UserError(f"targets must be speed-ups of at least 1, got {list(targets)}")
        tasks = _named("tasks", tasks)
        recipes = _named("recipes", recipes)
        exceptions = {}
        for recipe, content in recipes.items():
            special = _mapping(f"recipes.{recipe}.tasks", content.pop("tasks", None))
            for task, fragment in special.items():
                where = f"recipes.{recipe}.tasks.{task}"
                if task not in tasks:
                    raise UserError(f"{where}: no task {task!r} in this study; it has {', '.join(tasks)}")
                exceptions[recipe, task] = _fragment(where, fragment)
        return cls(
            name=name,
            out=Path("runs/studies") / name if out is None else Path(out),
            base=_fragment("base", base),
            tasks={key: _fragment(f"tasks.{key}", value) for key, value in tasks.items()},
            recipes={key: _fragment(f"recipes.{key}", value) for key, value in recipes.items()},
            exceptions=exceptions,
            seeds=seeds,
            targets=targets,
            keep=keep,
        )


def _fragment(where: str, content: Any) -> dict[str, Any]:
    """A fragment with `model` and `data` in their long form, `init_args` beside an optional `class_path`.

    Raises:
        UserError: A section is unknown or not a mapping.
    """
    fragment = dict(_mapping(where, content))
    _refuse_unknown(where, fragment, SECTIONS)
    for section, value in fragment.items():
        settings = dict(_mapping(f"{where}.{section}", value))
        if section in CLASSES:
            long = {"class_path": settings.pop("class_path")} if "class_path" in settings else {}
            arguments = dict(_mapping(f"{where}.{section}.init_args", settings.pop("init_args", None)))
            settings = {**long, "init_args": {**arguments, **settings}}
        fragment[section] = settings
    for key in RESERVED:
        if key in fragment.get("trainer", {}):
            raise UserError(f"{where}.trainer.{key} cannot be set: runs write into the study's folder; set `out`")
    return fragment


def _named(what: str, content: Any) -> dict[str, dict[str, Any]]:
    """Name to a copy of its content."""
    found = {str(key): dict(_mapping(f"{what}.{key}", value)) for key, value in _mapping(what, content).items()}
    if not found:
        raise UserError(f"{what} is missing: name at least one, with its settings")
    for name in found:
        if not NAME.fullmatch(name):
            raise UserError(f"{what}: {name!r} must consist of letters, digits, _, . and -")
    return found


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be a mapping of settings, got {value!r}")
    return value


def _refuse_unknown(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    unknown = [key for key in given if key not in known]
    if unknown:
        raise UserError(f"{where}.{unknown[0]} is not known; {where} may have {', '.join(known)}")
