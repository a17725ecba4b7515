"""Every numeric setting of every public class, given what no number may be: refused by name and value."""

from __future__ import annotations

import inspect
import math
import typing
from typing import Any, NamedTuple

import pytest
from faults.fault import ENCODER

from mebert import callbacks, curriculum, data, modules, policies
from mebert.calibration.points import requests
from mebert.commands.bench.command import BenchSettings
from mebert.commands.calibrate.command import CalibrationSettings
from mebert.commands.study.settings import Study
from mebert.errors import UserError


class Setting(NamedTuple):
    """One numeric argument of a class, and what else must be given."""

    owner: Any
    name: str
    given: dict[str, Any]
    is_int: bool
    is_list: bool

    def __str__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


def own(module: Any) -> list[type]:
    """The classes that a package makes public and that can be made."""
    found = [getattr(module, name) for name in module.__all__]
    return [each for each in found if inspect.isclass(each) and not inspect.isabstract(each)]


def arguments(owner: type) -> dict[str, Any]:
    """The arguments of a class, those that it passes on as **kwargs included, with their types."""
    found: dict[str, Any] = {}
    for base in owner.__mro__:
        if "__init__" not in vars(base) or not base.__module__.startswith("mebert"):
            continue
        parameters = inspect.signature(base.__init__).parameters
        hints = typing.get_type_hints(base.__init__)
        found = {name: hints.get(name) for name in parameters if name not in ("self", "kwargs")} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break  # what is above is not asked
    return found


# Infinity means something to DE3-BERT's lambda (the distance ratio alone); weights are what `fitted` has written.
FREE = {("lam", math.inf), ("lam_grid", math.inf)}
NOT_GIVEN = {"weights"}
NEEDED: dict[str, dict[str, Any]] = {
    **{each.__name__: {"encoder_config": ENCODER} for each in own(modules)},
    "TextDataModule": {"labels": ["a", "b"]},
    "CurriculumDataModule": {"labels": ["a", "b"]},
}
CLASSES = [
    *own(modules),
    *(each for each in own(policies) if each.name != policies.ExitPolicy.name),
    *own(data),
    *own(callbacks),
    *(each for each in own(curriculum) if issubclass(each, curriculum.Pacing)),
    curriculum.CrossReview,
    curriculum.CurriculumDataModule,
]


def settings() -> list[Setting]:
    found = []
    for owner in CLASSES:
        for name, kind in arguments(owner).items():
            text = str(kind)
            if name in NOT_GIVEN or not ("int" in text or "float" in text):
                continue
            is_list = any(word in text for word in ("list[", "tuple[", "Sequence["))
            found.append(Setting(owner, name, NEEDED.get(owner.__name__, {}), "float" not in text, is_list))
    return found


def test_there_are_many():
    names = {setting.name for setting in settings()}
    assert names >= {"learning_rate", "threshold", "batch_size", "holdout", "points", "until", "patience"}
    assert len(settings()) > 150


@pytest.mark.parametrize("setting", settings(), ids=str)
def test_what_is_no_number_in_range_is_refused_by_name_and_value(setting):
    values = (-7,) if setting.is_int else (math.nan, math.inf, -math.inf, -7.0)
    for value in values:
        if (setting.name, value) in FREE:
            continue
        with pytest.raises(UserError) as caught:
            setting.owner(**{**setting.given, setting.name: [value] if setting.is_list else value})
        assert setting.name in str(caught.value)
        assert str(value).removesuffix(".0") in str(caught.value)


STUDY = {"name": "s", "out": None, "base": {}, "tasks": {"t": {}}, "recipes": {"r": {}}, "seeds": [1], "targets": [1.0]}


@pytest.mark.parametrize(
    ("name", "value", "make"),
    [
        *(
            (name, [value] if name == "batch_sizes" else value, "bench")
            for name in ("max_length", "samples", "rounds", "threads", "num_labels", "seed", "batch_sizes")
            for value in (-7,)
        ),
        *(("speedups", [value], "bench") for value in (math.nan, math.inf, 0.5, -7.0)),
        *((name, -7, "calibrate") for name in ("batch_size", "max_length")),
        *(
            (name, value, "requests")
            for name in ("speedup", "speedup_flops", "layers", "gflops", "max_drop", "epsilon", "delta")
            for value in (math.nan, math.inf, -7.0)
        ),
        *(("targets", [value], "study") for value in (math.nan, math.inf, 0.5)),
        ("seeds", [-7], "study"),
    ],
)
def test_what_commands_are_given(name, value, make):
    makers = {
        "bench": lambda: BenchSettings(**{name: value}),
        "calibrate": lambda: CalibrationSettings("model", **{name: value}),
        "requests": lambda: requests(**{"delta": 0.1, "loss": "mistakes", "epsilon": 0.1, name: value}),
        "study": lambda: Study.checked(**{**STUDY, "keep": "models", name: value}),
    }
    with pytest.raises(UserError) as caught:
        makers[make]()
    assert name in str(caught.value)
    assert str(value).strip("[]").removesuffix(".0") in str(caught.value)
