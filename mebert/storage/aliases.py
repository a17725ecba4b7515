"""Public names of mebert 0.1.0 that have moved: they still resolve in Python, in YAML files and in saved models.

One table for modules that moved whole, one for single names. `mebert/__init__.py` installs the import hook.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "mebert.at_speed": "mebert.metrics.at_speed",
    "mebert.checkpoint_io": "mebert.storage.checkpoints",
    "mebert.classifier": "mebert.inference.classifier",
    "mebert.curve": "mebert.metrics.curve",
    "mebert.data.curriculum": "mebert.curriculum.datamodule",
    "mebert.data.curriculum_sampler": "mebert.curriculum.sampler",
    "mebert.distillation": "mebert.losses",
    "mebert.elue": "mebert.metrics.elue",
    "mebert.entry": "mebert.cli.main",
    "mebert.flops": "mebert.models.flops",
    "mebert.indicators": "mebert.policies.uncertainty",
    "mebert.inference.attention": "mebert.inference.attention_plan",
    "mebert.metrics": "mebert.metrics.task",
    "mebert.modules.leaving": "mebert.modules.exit_policy",
    "mebert.precision": "mebert.runtime.precision",
    "mebert.ranking": "mebert.metrics.ranking",
    "mebert.ray_data": "mebert.inference.ray_data",
    "mebert.scoring": "mebert.data.scoring",
    "mebert.strategies": "mebert.runtime.distributed",
    "mebert.temperature": "mebert.policies.temperature",
}
"""Module of 0.1.0 to the module that has its names now."""

NAMES = {
    "mebert.cli.main": "mebert.cli.main.main",
    "mebert.checkpoint_io.WholeCheckpointIO": "mebert.storage.checkpoint_io.AtomicCheckpointIO",
    "mebert.curriculum.Wrongness": "mebert.curriculum.measures.ExitErrorRate",
    "mebert.curriculum.measures.Wrongness": "mebert.curriculum.measures.ExitErrorRate",
    "mebert.data.CurriculumDataModule": "mebert.curriculum.datamodule.CurriculumDataModule",
    "mebert.data.SyntheticCurriculumDataModule": "mebert.curriculum.datamodule.SyntheticCurriculumDataModule",
    "mebert.flops.straight_flops": "mebert.models.flops.direct_exit_flops",
    "mebert.metrics.make_metric": "mebert.metrics.collected.make_metric",
    "mebert.metrics.update_metric": "mebert.metrics.collected.update_metric",
    "mebert.models.EncoderWalk": "mebert.models.encoder.EncoderAdapter",
    "mebert.models.load_policy": "mebert.policies.stored_thresholds.load_policy",
    "mebert.models.walk_for": "mebert.models.families.adapter_for",
    "mebert.modules.leaving.LeavingModule": "mebert.modules.exit_policy.EarlyExitModule",
    "mebert.ranking.QuestionRanking": "mebert.metrics.collected.QuestionRanking",
    "mebert.strategies.PatientDDP": "mebert.runtime.patient_ddp.PatientDDP",
}
"""Name of 0.1.0 to its path now, where a module stayed and lost it, or where it was renamed."""


def find_moved(path: str) -> Any:
    """What a path of 0.1.0 names now; None for a path that has not moved."""
    module, _, name = path.rpartition(".")
    if path in NAMES:
        module, _, name = NAMES[path].rpartition(".")
    elif module in MODULES:
        module = MODULES[module]
    else:
        return None
    return getattr(import_module(module), name, None)


def moved_names(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that names of 0.1.0 have left."""

    def get(name: str) -> Any:
        found = None if name.startswith("__") else find_moved(f"{module}.{name}")
        if found is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return found

    return get


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package that imports its names from their `modules` when they are first used."""
    moved = moved_names(package)

    def get(name: str) -> Any:
        return getattr(import_module(modules[name]), name) if name in modules else moved(name)

    return get


class _MovedModules(MetaPathFinder, Loader):
    """Imports a module of 0.1.0 as one whose names are those of its successor."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__getattr__"] = moved_names(module.__name__)


def install() -> None:
    """Let `import` find the modules of 0.1.0; after all other finders, so that a module that exists has priority."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())
