"""A search over settings: variants of a study's recipes from a grid, and a finished run as the base of all of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mebert.data.model_rows import read_run_config
from mebert.errors import UserError
from mebert.storage.run_folder import find_model

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")
OF_ONE_RUN = ("experiment", "seed_everything", "ckpt_path", "weights_only", "verbose", "test_after_fit", "config")
OWN_FOLDERS = ("default_root_dir", "logger")


def base_of_run(run: Path) -> tuple[str, dict[str, Any]]:
    """The experiment of a run, and the sections of its `config.yaml` that its repetitions share.

    Raises:
        UserError: The folder has no configuration of a run.
    """
    named = find_model(run).run if run.is_dir() else None
    content = {} if named is None else read_run_config(named.config)
    if "model" not in content:
        raise UserError(f"run {run}: there is no config.yaml of a run in it; give the folder that fit has written")
    base = {section: value for section, value in content.items() if section not in OF_ONE_RUN}
    base["trainer"] = {k: v for k, v in (base.get("trainer") or {}).items() if k not in OWN_FOLDERS}
    return str(content.get("experiment") or "run"), base


def grid_variants(grid: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every combination of a grid's values, by a name made of them, as a fragment of a configuration.

    >>> grid_variants({"model.dropout": [0, 0.1]})
    {'dropout-0': {'model': {'dropout': 0}}, 'dropout-0.1': {'model': {'dropout': 0.1}}}

    Raises:
        UserError: A key is no dotted setting, a value no list, or two values make the same name.
    """
    for key, values in grid.items():
        if "." not in str(key).strip("."):
            raise UserError(f"grid: {key!r} is no setting of a section; write such as model.learning_rate")
        if not isinstance(values, list) or not values:
            raise UserError(f"grid.{key} must be a list of the values to try, got {values!r}")
    found: dict[str, dict[str, Any]] = {}
    for chosen in itertools.product(*grid.values()):
        pairs = list(zip(map(str, grid), chosen, strict=True))
        name = "_".join(_name(key, value) for key, value in pairs)
        if name in found:
            raise UserError(f"grid: two of its values make the same name, {name}; leave one of them out")
        found[name] = {}
        for key, value in pairs:
            *path, last = key.split(".")
            place = found[name]
            for part in path:
                place = place.setdefault(part, {})
            place[last] = value
    return found


def _name(key: str, value: object) -> str:
    return f"{key.rpartition('.')[2]}-{NOT_IN_NAMES.sub('.', str(value)).strip('.')}"
