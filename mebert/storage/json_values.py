"""Values of JSON files that may hold anything, by their schema: what does not fit is one line that names the key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from mebert.errors import UserError, brief

T = TypeVar("T", bound=BaseModel)
SAVE_ANEW = "fetch or save the model anew"


def _as_float(value: object) -> object:
    """A long integer would become infinity."""
    try:
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    except OverflowError as error:
        raise ValueError("it is too large for a number") from error


Number = Annotated[float, BeforeValidator(_as_float)]  # not for keys, which are texts
Finite = Annotated[float, Field(allow_inf_nan=False)]


def read_json(file: Path, where: str | None = None, advice: str = SAVE_ANEW) -> dict[str, Any]:
    """The mapping in a JSON file; a UserError names the file (`where`: a name of it that says more than its path)."""
    where = str(file) if where is None else where
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=without_repetition)
    except RecursionError as error:
        raise UserError(f"{where} is not valid JSON: its lists are nested too deeply; {advice}") from error
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON ({error}); {advice}") from error
    if not isinstance(content, dict):
        raise UserError(f"{where} holds no settings, but {brief(content)}; {advice}")
    return content


def read_values(file: Path, schema: type[T], where: str | None = None, advice: str = SAVE_ANEW) -> T:
    """The content of a JSON file as the schema has it, types included; a UserError names file, key and value."""
    read_json(file, where, advice)
    try:
        return schema.model_validate_json(file.read_bytes(), strict=True)
    except ValidationError as error:
        raise UserError(f"{where or file}: {_first_fault(error)}; {advice}") from error


def check_values(schema: type[T], values: Mapping[str, Any], where: str, advice: str = "") -> T:
    """The values as the schema has them; a UserError begins with `where` and names the key that does not fit."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_fault(error)}{'; ' * bool(advice)}{advice}") from error


@contextmanager
def faults_in(where: str, advice: str = SAVE_ANEW) -> Iterator[None]:
    """Whatever is raised while the values of a file are used is the file's fault: a UserError that names it.

    A file's values reach into libraries, which raise what they like (OverflowError, IndexError, AssertionError ...).
    """
    try:
        yield
    except UserError as error:
        raise error if where in str(error) else UserError(f"{where}: {error}") from error
    except (NameError, ImportError):  # of a program, whatever the values
        raise
    except Exception as error:
        raise UserError(f"{where}: {summary(error)}; {advice}") from error


def summary(error: BaseException) -> str:
    """What an exception of a library says, in a line: without the headline of a list of faults."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    text = " ".join(lines[1:2] if len(lines) > 1 and lines[0].endswith((":", "Linear:", "Module:")) else lines[:1])
    named = isinstance(error, KeyError | AssertionError | IndexError) or not text
    return f"{type(error).__name__}{': ' * bool(text)}{text}"[:240] if named else text[:240].rstrip(".")


class RepeatedKey(ValueError):
    """An object of JSON has a key more than once, of which Python's parser would keep the last."""


def without_repetition(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` for JSON that refuses what is given twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedKey(f"the key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


_BRANCH = re.compile(r"^(function-|tuple\[|list\[)")  # pydantic's names for one of several types that a value may have


def _first_fault(error: ValidationError) -> str:
    """The key and what is wrong with its value, of the first of pydantic's errors."""
    fault: Mapping[str, Any] = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in fault["loc"] if part != "[key]" and not _BRANCH.search(str(part)))
    text = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"it lacks the key {key!r}"
    return f"{key}: {text}, got {brief(fault['input'])}" if key else text
