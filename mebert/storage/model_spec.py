"""What a saved model is, in plain values: the schema of `exits.json`, through which every reader and writer goes.

Models and policies are built from it above this folder; nothing in it is executed. Format 1 is that of mebert 0.1.0.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from filelock import FileLock
from pydantic import BaseModel, Field, NonNegativeInt, field_validator, model_validator

import mebert
from mebert.choices import HeadKind, PoolingKind, ProblemType
from mebert.errors import UserError, brief
from mebert.storage import thresholds
from mebert.storage.atomic import write_text
from mebert.storage.hub import hub_errors
from mebert.storage.json_values import Finite, check_values, read_json, read_values
from mebert.storage.model_folder import SPEC_FILE, split_revision
from mebert.storage.spec_parts import (
    Coverage,
    Expected,
    Guarantee,
    NamedClass,
    PlainValues,
    PrototypeSpec,
    Range,
    Share,
    Size,
    Speedup,
    Threshold,
    TrainedColumns,
    check_label_names,
    checked_problem_type,
)

FORMAT: Literal[1] = 1


class ModelSpec(BaseModel):
    """A saved model.

    Attributes:
        format: Version of this schema.
        model: Class path of the model; None in folders from before there were several classes.
        num_labels: C; 1 means regression.
        problem_type: What a label is, as in Hugging Face's `config.json`; None in 0.1.0: by `num_labels`.
        label_separator: What separated the labels of a row in the training file, where it had several; None: lists did.
        label_names: C distinct names.
        exit_layers: The layer (1-based, increasing) of each exit.
        pooling: What every exit reads; None in a cascade, as are `head`, `head_dropout` and `prototypes`.
        head: How every exit classifies.
        head_dropout: Dropout rate in the heads.
        prototypes: None without prototypes.
        exit_scorer: Whether there is a learning-to-exit head.
        members: A cascade's models, each the name of a folder beside the file.
        policy: Class path and arguments of the exit policy (`ExitPolicy.spec`).
        chosen_by: What chose the policy's threshold, such as `max_drop 0.005`; None where it is not known, as in 0.1.0.
        expected: Policy name to what is expected at each of its stored thresholds.
        operating_points: Policy name to speed-up by layers to threshold.
        max_drops: Policy name to largest measured drop of the metric to threshold.
        guarantees: Policy name to epsilon to threshold with its guarantee.
        exit_temperatures: What each exit's logits are divided by before scores of several exits are ranked together;
            empty where nothing is ranked.
        score_bounds: Share of validation documents to bounds: by how much at least and at most the last exit's ranking
            score is above that of each exit before it; empty where nothing is ranked.
        max_length: Tokens to which the model's texts were cut in training and calibration; None where it is not known.
        stride: Tokens by which the windows overlap in which longer texts are read; None: they are cut.
        num_texts: Texts that the model reads at a time, 1 or 2 (pairs); None where it is not known.
        columns: Of the files of the training, by whose names other files are read; None where they are not known.
        base_model: Hub id of the encoder from which it was trained; None: a folder, random weights, or not known.
        mebert_version: The version that wrote the file; None of 0.1.0.
    """

    model_config = PlainValues.model_config

    format: Literal[1] = FORMAT
    model: str | None = None
    num_labels: Size
    problem_type: ProblemType | None = None
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    label_names: list[str]
    exit_layers: list[Size]
    pooling: PoolingKind | None = None
    head: HeadKind | None = None
    head_dropout: Annotated[Finite, Field(ge=0, lt=1)] | None = None
    prototypes: PrototypeSpec | None = None
    exit_scorer: bool = False
    members: list[str] | None = None
    policy: NamedClass | None = None
    chosen_by: str | None = None
    expected: dict[str, list[Expected]] = {}
    operating_points: dict[str, dict[Speedup, Threshold]] = {}
    max_drops: dict[str, dict[Share, Threshold]] = {}
    guarantees: dict[str, dict[Share, Guarantee]] = {}
    exit_temperatures: list[Annotated[Finite, Field(gt=0)]] = []
    score_bounds: dict[Coverage, list[Range]] = {}
    max_length: Size | None = None
    stride: NonNegativeInt | None = None
    num_texts: Literal[1, 2] | None = None
    columns: TrainedColumns | None = None
    base_model: str | None = None
    mebert_version: str | None = None

    @field_validator("exit_layers")
    @classmethod
    def _increasing(cls, layers: list[int]) -> list[int]:
        if not layers or any(a >= b for a, b in pairwise(layers)):
            raise ValueError("it must hold increasing layer numbers")
        return layers

    @field_validator("members")
    @classmethod
    def _beside_the_file(cls, members: list[str] | None) -> list[str] | None:
        for name in members or ():
            if name in ("", ".", "..") or Path(name).name != name:
                raise ValueError("it must hold names of folders beside the file")
        return members

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        check_label_names(self.label_names, self.num_labels)
        checked_problem_type(self.problem_type, self.num_labels)
        if len(self.exit_temperatures) not in (0, len(self.exit_layers)):
            numbers = f"exit_temperatures has {len(self.exit_temperatures)} numbers"
            raise ValueError(f"{numbers}, but exit_layers {len(self.exit_layers)} exits")
        for share, bounds in self.score_bounds.items():
            if len(bounds) != len(self.exit_layers) - 1 or any(low > high for low, high in bounds):
                raise ValueError(f"score_bounds at {share:g} must be the lowest and highest of each exit but the last")
        if self.members is not None and len(self.members) != len(self.exit_layers):
            raise ValueError(f"members has {len(self.members)} models, but exit_layers {len(self.exit_layers)} exits")
        return self

    @classmethod
    def read(cls, path: str | Path) -> ModelSpec:
        """The content of `exits.json` of a folder or Hub id.

        Raises:
            UserError: There is none, or a value in it is wrong; the text names the key.
        """
        file = Path(path) / SPEC_FILE
        if Path(path).is_dir() and not file.is_file():
            raise UserError(
                f"{path} is not a saved mebert model: it has no {SPEC_FILE}; fit writes such a folder as <run>/model"
            )
        if not file.is_file():
            from transformers.utils import cached_file  # not at the top: an export is served without transformers

            from mebert.storage.download_bar import DownloadBar

            with hub_errors(f"model {str(path)!r}"):
                repo, revision = split_revision(str(path))
                file = Path(str(cached_file(repo, SPEC_FILE, revision=revision or "main", tqdm_class=DownloadBar)))
        where = f"{path}/{SPEC_FILE}"
        content = read_json(file, where)
        if (found := content.get("format")) != FORMAT:
            by = f", written by mebert {brief(content['mebert_version'])}" if "mebert_version" in content else ""
            raise UserError(
                f"{where} has format {brief(found)}{by}; this is mebert {mebert.__version__}, which "
                f"reads format {FORMAT}: use the version that wrote it, or save the model anew"
            )
        spec = read_values(file, cls, where)
        _tell_other_version(where, spec.mebert_version, tuple(sorted(content.keys() - cls.model_fields)))
        if spec.mebert_version is None:
            spec._drop_thresholds_of_another_f_pabee(where)
        return spec

    def _drop_thresholds_of_another_f_pabee(self, where: str) -> None:
        """In 0.1.0 the name meant `PatientDivergence`, and does now only where that is the model's own policy."""
        own = "" if self.policy is None else str(self.policy["class_path"])
        if own.endswith(".PatientDivergence"):
            return
        gone = [points.pop("f_pabee", None) for points in (self.operating_points, self.max_drops, self.guarantees)]
        if any(gone):
            warnings.warn(
                f"{where}: its thresholds of f_pabee are for the divergence, which mebert 0.1.0 meant by it, and "
                "are not used; calibrate the model with policy f_pabee, or give mebert.PatientDivergence in Python",
                stacklevel=3,
            )

    def write(self, folder: str | Path) -> None:
        """Write `exits.json` whole; values that were never set are left out."""
        self.mebert_version = mebert.__version__
        values = {"format": FORMAT} | self.model_dump(exclude_unset=True)
        write_text(json.dumps(values, indent=2) + "\n", Path(folder) / SPEC_FILE)

    @classmethod
    @contextmanager
    def change(cls, folder: str | Path) -> Iterator[ModelSpec]:
        """Change a folder's spec within one read and write, a process at a time."""
        with only_writer(folder):
            spec = cls.read(folder)
            yield spec
            spec.write(folder)

    def with_values(self, **values: Any) -> ModelSpec:
        """A copy with other values; a UserError names the key of one that does not fit."""
        return check_values(ModelSpec, self.model_dump(exclude_unset=True) | values, SPEC_FILE)

    @property
    def window(self) -> int | None:
        """Tokens of the windows in which long texts are read; None: they are cut."""
        return None if self.stride is None else self.max_length

    def thresholds_for_max_drop(self) -> dict[str, dict[float, thresholds.Threshold]]:
        """Policy name to drop to threshold; a guarantee replaces a measurement for the same number."""
        drops: dict[str, dict[float, Any]] = {name: dict(points) for name, points in self.max_drops.items()}
        for name, points in self.guarantees.items():
            drops.setdefault(name, {}).update({epsilon: found.threshold for epsilon, found in points.items()})
        return drops


@cache
def _tell_other_version(where: str, written_by: str | None, unknown: tuple[str, ...]) -> None:
    """Warn, once, of a file that a newer mebert has written, or that has keys which this one does not know."""
    newer = written_by is not None and _release(written_by) > _release(mebert.__version__)
    if newer or unknown:
        by = f"was written by mebert {written_by}" if written_by else "was not written by mebert"
        keys = f"; its {', '.join(map(brief, unknown))} is not read" if unknown else ""
        warnings.warn(f"{where} {by}, this is {mebert.__version__}{keys}; answers may differ", stacklevel=3)


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,9}", text)[:3])


@contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """What a process holds while it writes into a model folder, one at a time; its hidden lock file goes with it."""
    path = Path(folder) / f".{SPEC_FILE}.lock"
    with FileLock(path):
        try:
            yield
        finally:
            with suppress(OSError):  # a system that keeps open files
                path.unlink()  # while it is held: who waits for it sees that, and takes a new one
