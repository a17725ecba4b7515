"""The settings of runs: what differs, which runs differ in the seed alone, and what to call the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

__all__ = ["differences", "flat", "names_of", "recipe_key"]

PLACES = ("trainer.logger", "trainer.default_root_dir", "ckpt_path", "weights_only", "predictions.")
"""Beginnings of settings that say where things are, not what was trained."""

WORDS = ("experiment", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps")
"""Settings that do not change what is trained either, but tell a reader which run is which."""

SEEDS = ("seed_everything", "data.init_args.seed")
LONGEST = 18


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A configuration with one dotted name a setting, lists in one line.

    >>> flat({"model": {"class_path": "mebert.GEEPModule", "init_args": {"lam": None, "k": [1, 2]}}})
    {'model.class_path': 'mebert.GEEPModule', 'model.init_args.lam': 'null', 'model.init_args.k': '[1, 2]'}
    """
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            shown = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10**6)
            found[f"{prefix}{name}"] = shown.removesuffix("\n").removesuffix("\n...")
    return found


def differences(configs: Sequence[Mapping[str, str]]) -> dict[str, list[str | None]]:
    """Settings that differ, by name, each run's value in the order given; None where a run does not have it."""
    names = dict.fromkeys(name for config in configs for name in config if not name.startswith(PLACES))
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}


def recipe_key(config: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What runs of the same recipe share: all settings but seeds, places and words."""
    return tuple(sorted(_of_recipe(config).items()))


def names_of(recipes: Sequence[str], configs: Sequence[Mapping[str, str]], folders: Sequence[str]) -> list[str]:
    """A name for each line of a chart: its recipe, and where several lines have one, the settings that tell them apart.

    Args:
        recipes: Of each line.
        configs: Of each line.
        folders: Of each line, for those that nothing else tells apart.
    """
    names = []
    for place, recipe in enumerate(recipes):
        same = [other for other, one in enumerate(recipes) if one == recipe]
        keys = [_of_recipe(configs[other]) for other in same]
        mine, first = keys[same.index(place)], keys[0]
        differ = list(differences(keys))
        if len(differ) > 2:  # too many to tell all: what is different from the first of them
            differ = [name for name in differ if mine.get(name) != first.get(name)]
        differ = sorted(differ, key=lambda name: not name.startswith("model."))[:2]
        said = [f"{_short(name)}={_cut(mine.get(name, 'none'))}" for name in differ]
        names.append(" ".join([recipe, ", ".join(said)]) if said else recipe)
    for name in [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        twice = [place for place, one in enumerate(names) if one == name]
        apart = len({folders[place] for place in twice}) == len(twice)
        for number, place in enumerate(twice):
            names[place] = f"{name} ({folders[place] if apart else number + 1})"
    return names


def _of_recipe(config: Mapping[str, str]) -> dict[str, str]:
    without = (*PLACES, *WORDS)
    return {name: value for name, value in config.items() if name not in SEEDS and not name.startswith(without)}


def _short(name: str) -> str:
    """The last part of a setting's name that says something."""
    parts = [part for part in name.split(".") if part not in ("init_args", "class_path")]
    return parts[-1]


def _cut(value: str) -> str:
    value = value.rpartition(".")[2] if value.startswith("mebert.") else value
    return value if len(value) <= LONGEST else value[: LONGEST - 3] + "..."
