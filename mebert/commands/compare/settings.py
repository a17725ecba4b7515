"""The settings of runs: which differ, which runs differ in their seed alone, and names for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

# Prefixes of settings that name places, and so do not change what is trained.
PLACES = ("trainer.logger", "trainer.default_root_dir", "ckpt_path", "weights_only", "predictions.")
# Settings that do not change what is trained either, but are shown, since they identify a run.
LABELS = ("experiment", "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps")
SEEDS = ("seed_everything", "data.init_args.seed")
LONGEST = 18  # characters of a value in a name


def recipe_of(config: Mapping[str, Any]) -> str:
    """The name of a configuration's module, without its ending."""
    return str(config["model"]["class_path"]).rpartition(".")[2].removesuffix("Module")


def task_of(data: Mapping[str, Any]) -> str:
    """The task of a configuration's data: its name, its file, or else the name of the data module."""
    init: dict[str, Any] = data.get("init_args") or {}
    named = next((init[name] for name in ("task", "test_file", "train_file") if init.get(name)), None)
    return str(named or str(data["class_path"]).rpartition(".")[2].removesuffix("DataModule"))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A configuration as texts, with one dotted name for each setting.

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
    """Settings that differ between runs: name to the value in each run, None where a run does not have it."""
    names = dict.fromkeys(name for config in configs for name in config if not name.startswith(PLACES))
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}


def recipe_settings(config: Mapping[str, str]) -> dict[str, str]:
    """The settings that runs must share to differ in their seed alone: all but seeds, places and labels."""
    without = (*PLACES, *LABELS)
    return {name: value for name, value in config.items() if name not in SEEDS and not name.startswith(without)}


def names_of(recipes: Sequence[str], configs: Sequence[Mapping[str, str]], folders: Sequence[str]) -> list[str]:
    """A name for each group of runs: its recipe, and where several groups have it, two of the settings that differ.

    Where names are still equal, the group's folder or a number follows.
    """
    names = []
    for place, recipe in enumerate(recipes):
        same = [other for other, one in enumerate(recipes) if one == recipe]
        keys = [recipe_settings(configs[other]) for other in same]
        mine, first = keys[same.index(place)], keys[0]
        differ = list(differences(keys))
        if len(differ) > 2:  # too many for a name: only what differs from the first of them
            differ = [name for name in differ if mine.get(name) != first.get(name)]
        differ = sorted(differ, key=lambda name: not name.startswith("model."))[:2]
        short = [name.removesuffix(".class_path").removesuffix(".init_args").rpartition(".")[2] for name in differ]
        values = [f"{what}={_cut(mine.get(name, 'none'))}" for what, name in zip(short, differ, strict=True)]
        names.append(" ".join([recipe, ", ".join(values)]) if values else recipe)
    for name in [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        twice = [place for place, one in enumerate(names) if one == name]
        apart = len({folders[place] for place in twice}) == len(twice)
        for number, place in enumerate(twice):
            names[place] = f"{name} ({folders[place] if apart else number + 1})"
    return names


def _cut(value: str) -> str:
    value = value.rpartition(".")[2] if value.startswith("mebert.") else value
    return value if len(value) <= LONGEST else value[: LONGEST - 3] + "..."
