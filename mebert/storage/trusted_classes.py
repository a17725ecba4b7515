"""Classes that a file names: found among what is imported already, never imported or called by their name.

A checkpoint and a saved model name their class and that of their policy. Such a name comes from the author of the
file; to import it would be to run what it names. Users name their own classes themselves (`--model mine.Recipe`, or
`import mine` in Python), which imports them before any file is read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from mebert.errors import UserError, brief
from mebert.storage.aliases import find_moved
from mebert.storage.json_values import SAVE_ANEW, faults_in

T = TypeVar("T")

# Beyond jsonargparse's own list (os, subprocess, pickle, importlib, ...): what runs a file or a download.
DENIED = ["torch.hub", "torch.load", "torch.serialization", "torch.package", "torch.utils.cpp_extension"]
PLAIN = (str, int, float, bool, type(None), list, dict, tuple, set, Any)


def strict_parsing() -> None:
    """Have configurations name classes only where a class belongs, and none that runs commands or opens pickles."""
    from jsonargparse import set_parsing_settings

    set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=DENIED)


def class_path_of(cls: type) -> str:
    """The name by which files know a class; of ours the public one, such as `mebert.models.MultiExitModel`."""
    folder = ".".join(cls.__module__.split(".")[:2])
    public = folder.startswith("mebert.") and getattr(sys.modules[folder], cls.__qualname__, None) is cls
    return f"{folder if public else cls.__module__}.{cls.__qualname__}"


def subclasses_of(cls: type[T]) -> Iterator[type[T]]:
    """All imported subclasses of a class, those of subclasses included."""
    for found in cls.__subclasses__():
        yield found
        yield from subclasses_of(found)


def imported_class(
    path: object, base: type[T], what: str, option: str | None = None, advice: str | None = None
) -> type[T]:
    """The class that a file names; a UserError if its module is not imported, or it is no such class.

    `option` is that of `fit`, `validate`, `test` and `predict` which names such a class, and so imports it; `advice`
    is what else does without the class.
    """
    module, _, name = str(path).rpartition(".")
    home, moved = sys.modules.get(module), find_moved(str(path))
    if home is None and moved is None:
        first = module or "the module that defines it"
        if advice is not None:
            raise UserError(
                f"{what} is of the class {str(path)!r}, which is not imported, and no file may choose what is; "
                f"{advice}, or in Python `import {first}` before mebert.cli.main.main([...])"
            )
        named = "" if option is None else f"name it yourself ({option} {path}, in fit, validate, test and predict), or "
        raise UserError(
            f"{what} is of the class {str(path)!r}, which is not imported, and no file may choose what is; if it is "
            f"yours, import it first: {named}in Python `import {first}` before anything is opened (commands: "
            "mebert.cli.main.main([...]))"
        )
    # Of other packages only what is there: asking a lazy one for a name would import the part that has it.
    found = moved or (getattr(home, name, None) if module.partition(".")[0] == "mebert" else vars(home).get(name))
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{what} is of the class {str(path)!r}, which is no imported {base.__name__}")
    return found


def instance_of(path: object, init_args: Mapping[str, Any], base: type[T], what: str, option: str | None = None) -> T:
    """An object of the class that a file names, with the arguments that it names; types are those of the constructor.

    A class whose defaults have changed has in `stored_defaults` what a file means that is older than the argument.

    Raises:
        UserError: The class is not imported or no `base`, or an argument does not fit; the text names it.
    """
    found = imported_class(path, base, what, option)
    hints = dict[str, Any]()
    with suppress(NameError):  # annotations that only a type checker can read
        hints = get_type_hints(found.__init__)
    given = {
        name: _checked(value, hints[name], f"{what} {str(path)!r} has settings that do not fit: {name}")
        if name in hints
        else value
        for name, value in {**getattr(found, "stored_defaults", {}), **init_args}.items()
    }
    with faults_in(f"{what} {str(path)!r} has settings that do not fit"):
        return found(**given)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """A plain value as its annotation has it; one that has no meaning in JSON stays as it is."""
    try:
        check: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
        text = json.dumps(value)
    except (PydanticUserError, TypeError):  # an object
        return value
    try:
        return check.validate_json(text, strict=True)
    except ValidationError as error:
        raise UserError(f"{where}: {error.errors()[0]['msg']}, got {brief(value)}; {SAVE_ANEW}") from error


def check_named_classes(
    settings: Mapping[str, Any], where: str, cls: type | None = None, option: str | None = None
) -> None:
    """Refuse settings of a file, arguments of `cls` if that is known, that would have the parser import something.

    `option` is that of the settings, such as `--model`, where they may be given on the command line.
    A class is named by a mapping with `class_path`, as saved configurations do; it must be imported already.
    """
    takes_class = {} if cls is None else _take_classes(cls)
    for name, value in settings.items():
        own = None if option is None else f"{option}.{name}"
        _check(value, f"{where}: its setting {name}", takes_class.get(name), own)


def _check(value: Any, what: str, takes_class: bool | None, option: str | None) -> None:
    if isinstance(value, Mapping):
        if "class_path" in value and takes_class is False:
            raise UserError(f"{what} names the class {value['class_path']!r} where none belongs; it is not opened")
        cls = imported_class(value["class_path"], object, what, option) if "class_path" in value else None
        for name, inner in value.items():
            if cls is not None and name in ("init_args", "dict_kwargs") and isinstance(inner, Mapping):
                check_named_classes(inner, what, cls, option)
            elif name != "class_path":
                _check(inner, what, takes_class, option)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, what, takes_class, option)
    elif isinstance(value, str) and ("class_path" in value or (takes_class and not _is_known(value))):
        # The parser would read it as the name of a class, as YAML, or as the path of a file with either.
        raise UserError(f"{what} is the text {value[:80]!r} where a class and its settings belong; it is not opened")


def _is_known(name: str) -> bool:
    """Whether a text names no more than what is imported: `torch.relu`, or the short name of a class."""
    module, _, last = name.rpartition(".")
    home = sys.modules.get(module)
    known = name.isidentifier() if not module else home is not None and last in vars(home)
    return known and not Path(name).exists()


def _take_classes(cls: type) -> dict[str, bool]:
    """Of each argument of a class, by its annotation: whether it takes an object of some class."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "its", fail_untyped=False)
    hints = {action.dest.removeprefix("its."): getattr(action, "_typehint", None) for action in parser._actions}
    return {name: hint is not None and not _is_plain(hint) for name, hint in hints.items()}


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is Literal or hint in PLAIN:
        return True
    if parts := get_args(hint):
        return all(map(_is_plain, parts))
    return isinstance(hint, type) and issubclass(hint, Enum | Path)
