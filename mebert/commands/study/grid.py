"""The cells of a study."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mebert.commands.study.cell import Cell
from mebert.commands.study.settings import CLASSES, Study
from mebert.errors import UserError

__all__ = ["cells_of", "select"]


def cells_of(study: Study) -> list[Cell]:
    """All cells, seed by seed, so that whatever is finished is balanced."""
    return [_cell(study, r, t, seed) for seed in study.seeds for t in study.tasks for r in study.recipes]


def _cell(study: Study, recipe: str, task: str, seed: int) -> Cell:
    fragments = (study.base, study.tasks[task], study.recipes[recipe], study.exceptions.get((recipe, task), {}))
    merged: dict[str, Any] = {}
    for fragment in fragments:
        for section, content in fragment.items():
            # Arguments stay when a recipe brings another class: they are the common ones.
            over = {k: v for k, v in content.items() if k != "class_path"} if section in CLASSES else content
            named = {k: v for k, v in content.items() if k == "class_path"}
            merged[section] = _merge(merged.get(section, {}), over) | named
    for section in CLASSES:
        if "class_path" not in merged.get(section, {}):
            raise UserError(
                f"recipe {recipe!r}, task {task!r}: no {section}.class_path in the recipe, the task or base"
            )
    parent = study.out / task / recipe
    experiment = f"seed_{seed}"
    trainer = {"enable_progress_bar": False, **merged.get("trainer", {}), "default_root_dir": str(parent)}
    config = {"experiment": experiment, "seed_everything": seed, **merged, "trainer": trainer}
    return Cell(recipe, task, seed, parent / experiment, config)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, key by key; a mapping with a class_path replaces the value as a whole."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and "class_path" not in value:
            value = _merge(before, value)
        merged[key] = value
    return merged


def select(cells: list[Cell], only: Iterable[str] | None) -> list[Cell]:
    """The cells that `--only` selects.

    Args:
        cells: All of a study.
        only: Words such as `recipe=joint`, `task=rte,mrpc` or `recipe=joint,task=rte,seed=1`; values of one key add up,
            different keys must all be met. None: all cells.

    Raises:
        UserError: An unknown key or value.
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
