"""The settings of a study, checked before anything runs, and the cells that follow from them.

*Fragments* of a run's configuration are merged for each run: the common one (`base`), the task's and the recipe's. A
fragment has sections of a configuration of `fit`; in `model` and `data`, keys beside `class_path` and `init_args` count
as arguments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mebert.callbacks.default_callbacks import CALLBACKS
from mebert.commands.study.cell import Cell
from mebert.commands.study.search import grid_variants
from mebert.errors import UserError

CLASSES = ("model", "data")
SECTIONS = (*CLASSES, "trainer", *CALLBACKS)
RESERVED = ("default_root_dir", "logger")  # of the trainer: where runs write, which the study sets itself
NAME = re.compile(r"[A-Za-z0-9_.-]+")  # of a folder, and of a value of --only


@dataclass(frozen=True)
class Study:
    """The arguments of the command `study`, checked; `exceptions` are fragments that win over all others."""

    name: str
    out: Path
    base: dict[str, Any]
    tasks: dict[str, dict[str, Any]]
    recipes: dict[str, dict[str, Any]]
    exceptions: dict[tuple[str, str], dict[str, Any]]  # by recipe and task
    seeds: tuple[int, ...]
    targets: tuple[float, ...]
    keep: str

    @classmethod
    def checked(
        cls, name: str | None, out: str | Path | None, seeds: Any, targets: Any, keep: str, **parts: Any
    ) -> Study:
        """A study from the plain values of its YAML; a UserError names a setting that is missing, unknown or wrong."""
        if name is None:
            raise UserError("name is missing: give the YAML of a study, such as --config configs/study/quick.yaml")
        if not NAME.fullmatch(name):
            raise UserError(f"name is {name!r}: give the study a name of letters, digits, _, . and -")
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise UserError(f"seeds must be different numbers from 0, at least one; got {list(seeds)}")
        if not targets or not all(1 <= target < math.inf for target in targets):
            raise UserError(f"targets must be speed-ups of at least 1, got {list(targets)}")
        tasks, recipes, exceptions = _named("tasks", parts["tasks"]), _named("recipes", parts["recipes"]), {}
        for recipe, content in recipes.items():
            for task, fragment in _mapping(f"recipes.{recipe}.tasks", content.pop("tasks", None)).items():
                where = f"recipes.{recipe}.tasks.{task}"
                if task not in tasks:
                    raise UserError(f"{where}: no task {task!r} in this study; it has {', '.join(tasks)}")
                exceptions[recipe, task] = _fragment(where, fragment)
        base = _fragment("base", parts["base"])
        tasks = {key: _fragment(f"tasks.{key}", value) for key, value in tasks.items()}
        recipes = {key: _fragment(f"recipes.{key}", value) for key, value in recipes.items()}
        if grid := _mapping("grid", parts.get("grid")):
            recipes, exceptions = _with_grid(grid, recipes, exceptions)
        folder = Path("runs/studies") / name if out is None else Path(out)
        return cls(name, folder, base, tasks, recipes, exceptions, tuple(seeds), tuple(sorted(set(targets))), keep)


def _fragment(where: str, content: Any) -> dict[str, Any]:
    """A fragment with `model` and `data` in their long form, `init_args` beside an optional `class_path`."""
    fragment = dict(_mapping(where, content))
    for section, value in fragment.items():
        if section not in SECTIONS:
            raise UserError(f"{where}.{section} is not known; {where} may have {', '.join(SECTIONS)}")
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


def _with_grid(
    grid: Mapping[str, Any], recipes: dict[str, dict[str, Any]], exceptions: dict[tuple[str, str], dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str], dict[str, Any]]]:
    """Every recipe with every combination of a grid's values, and the exceptions of each; the grid wins over both."""
    variants = {name: _fragment("grid", content) for name, content in grid_variants(grid).items()}
    alone = len(recipes) == 1
    names = {
        (recipe, variant): variant if alone else f"{recipe}_{variant}" for recipe in recipes for variant in variants
    }
    laid_over = {names[r, v]: _laid_over(recipes[r], variants[v]) for r, v in names}
    others = {
        (names[recipe, variant], task): _laid_over(fragment, variants[variant])
        for (recipe, task), fragment in exceptions.items()
        for variant in variants
    }
    return laid_over, others


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


def cells_of(study: Study) -> list[Cell]:
    """All cells, seed by seed, so that whatever is finished is balanced; a UserError if one has no class."""
    return [_cell(study, r, t, seed) for seed in study.seeds for t in study.tasks for r in study.recipes]


def _cell(study: Study, recipe: str, task: str, seed: int) -> Cell:
    merged: dict[str, Any] = {}
    for fragment in (study.base, study.tasks[task], study.recipes[recipe], study.exceptions.get((recipe, task), {})):
        merged = _laid_over(merged, fragment)
    for section in CLASSES:
        if "class_path" not in merged.get(section, {}):
            where = f"recipe {recipe!r}, task {task!r}"
            raise UserError(f"{where}: no {section}.class_path in the recipe, the task or base")
    parent, experiment = study.out / task / recipe, f"seed_{seed}"
    trainer = {"enable_progress_bar": False, **merged.get("trainer", {}), "default_root_dir": str(parent)}
    config = {"experiment": experiment, "seed_everything": seed, **merged, "trainer": trainer}
    return Cell(recipe, task, seed, parent / experiment, config)


def _laid_over(merged: Mapping[str, Any], fragment: Mapping[str, Any]) -> dict[str, Any]:
    """A fragment over another, section by section."""
    found = dict(merged)
    for section, content in fragment.items():
        # Arguments stay when a recipe brings another class: they are the common ones.
        over, named = dict(content), {}
        if section in CLASSES and "class_path" in over:
            named = {"class_path": over.pop("class_path")}
        found[section] = _merge(found.get(section, {}), over) | named
    return found


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, key by key; a mapping with a class_path replaces the value as a whole."""
    merged = base | over
    for key in base.keys() & over.keys():
        before, value = base[key], over[key]
        if isinstance(value, dict) and isinstance(before, dict) and "class_path" not in value:
            merged[key] = _merge(before, value)
    return merged


def select(cells: list[Cell], only: Iterable[str] | None) -> list[Cell]:
    """The cells that `--only` selects, None all of them; a UserError for an unknown key or value.

    Words are such as `task=rte,mrpc` or `recipe=joint,task=rte,seed=1`: any of a key's values, and all of the keys.
    """
    wanted: dict[str, set[str]] = {}
    for word in only or []:
        key = ""
        for part in word.split(","):
            if "=" in part:
                key, _, part = part.partition("=")
            known = sorted({str(getattr(cell, key)) for cell in cells} if key in ("recipe", "task", "seed") else ())
            if not known:
                raise UserError(f"--only {word}: write recipe=<name>, task=<name> or seed=<number>")
            if part not in known:
                raise UserError(f"--only {word}: no {key} {part!r}; this study has {', '.join(known)}")
            wanted.setdefault(key, set()).add(part)
    return [cell for cell in cells if all(str(getattr(cell, key)) in values for key, values in wanted.items())]
