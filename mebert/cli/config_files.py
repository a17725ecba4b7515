"""Configuration files looked at before they are used, so that a fault in one is told with the file and the line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from mebert.errors import UserError

__all__ = ["check_config", "check_configs"]

ENDINGS = (".yaml", ".yml")
PLAIN = "tag:yaml.org,2002:"
MOST_VALUES = 1_000_000  # a hundred lines of aliases to aliases can stand for more values than any memory holds


def check_configs(args: Sequence[str]) -> None:
    """Look at every configuration that a command line names.

    Args:
        args: The command line: the value of `--config`, and YAML files given to other options (`--trainer gpu.yaml`).

    Raises:
        UserError: One is not there, or no mapping in YAML.
    """
    for option, value in _values(args):
        whole = option == "--config" and not _is_inline(value)
        if whole or (option.startswith("--") and value.endswith(ENDINGS) and Path(value).is_file()):
            check_config(value, option)


def check_config(path: str, option: str = "--config") -> None:
    """Look at one configuration.

    Args:
        path: The file.
        option: By which it was given, for the message.

    Raises:
        UserError: As `check_configs`.
    """
    given = f"{option} {path}"
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{given}: there is no such file; check the path (it is relative to {Path.cwd()})") from None
    except IsADirectoryError:
        raise UserError(f"{given}: that is a folder; name the YAML file in it") from None
    except OSError as error:
        raise UserError(f"{given}: {error.strerror or error}; give a file that can be read") from error
    except UnicodeDecodeError:
        raise UserError(f"{given}: not UTF-8 text; save the file as UTF-8") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise UserError(f"{given}{where}: not YAML ({error.problem or error.context}); correct it there") from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise UserError(f"{given}: not YAML ({reason}); correct the file") from None
    if not isinstance(node, yaml.MappingNode):
        what = "empty" if node is None or not text.strip() else f"a {_kind(node)}"
        raise UserError(f"{given} is {what}; it must be a mapping of sections, such as trainer: {{max_epochs: 3}}")
    _Adapter(given).values(node)


class _Adapter:
    """Every value of a document once, however many aliases lead to it.

    Args:
        given: The file, for messages.
    """

    def __init__(self, given: str) -> None:
        self.given = given
        self.above: set[int] = set()
        self.counts: dict[int, int] = {}

    def values(self, node: yaml.Node) -> int:
        """How many values a node stands for, itself included."""
        if id(node) in self.counts:
            return self.counts[id(node)]
        where = f"{self.given}, line {node.start_mark.line + 1}"
        if id(node) in self.above:
            raise UserError(f"{where}: an alias (*name) within what it names; write its values out")
        if not node.tag.startswith(PLAIN) or node.tag.startswith(f"{PLAIN}python"):
            raise UserError(f"{where}: the tag {node.tag.replace(PLAIN, '!!')} is not allowed; give plain values")
        self.above.add(id(node))
        count = 1 + sum(map(self.values, self._inner(node)))
        self.above.discard(id(node))
        if count > MOST_VALUES:
            raise UserError(f"{where}: aliases (*name) that stand for more than {MOST_VALUES:,} values; write less")
        self.counts[id(node)] = count
        return count

    def _inner(self, node: yaml.Node) -> Iterator[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            yield from node.value
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in seen and isinstance(key, yaml.ScalarNode):
                    raise UserError(
                        f"{self.given}, line {line}: the key {key.value!r} stands in line {seen[key.value]} already; "
                        "keep one of them"
                    )
                if isinstance(key, yaml.ScalarNode):
                    seen[key.value] = line
                yield key
                yield value


def _values(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with each of its values."""
    option = ""
    for word in args:
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            if equals:
                yield option, value
        else:
            yield option, word


def _is_inline(value: str) -> bool:
    """Whether a value is a configuration itself and no path."""
    return "{" in value or "\n" in value


def _kind(node: yaml.Node) -> str:
    return "list" if isinstance(node, yaml.SequenceNode) else "single value"
