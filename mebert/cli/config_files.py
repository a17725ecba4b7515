"""The YAML loader of configuration files: strict, and with the file and the line of a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader
from jsonargparse._loaders_dumpers import get_yaml_default_loader
from jsonargparse._util import config_load_stack  # which file is being read: its loaders are given the text alone

from mebert.commands.parser import ConfigFileError

PLAIN = "tag:yaml.org,2002:"
MAX_VALUES = 1_000_000  # a hundred lines of aliases to aliases can stand for more values than any memory holds
_load_word = get_loader("yaml")


def use_strict_loader() -> None:
    """Have jsonargparse read every YAML file with `load_yaml`."""
    set_loader("yaml", load_yaml, (yaml.YAMLError,))


def load_yaml(text: str, path: str = "") -> Any:
    """Parse a configuration file (`path` is given where it must be a mapping of sections), or a single value.

    A `ConfigFileError` names the fault of a file; after a YAMLError jsonargparse takes a value as a string.
    """
    files = config_load_stack.get()
    if not files:
        return _load_word(text)
    absolute, file = files[-1]
    try:
        value = StrictLoader(text).get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: `!!int abc`, an integer of 5,000 digits
        # Strings in a file are loaded one by one, too: they may be anything.
        if path or text == Path(absolute).read_text(encoding="utf-8"):
            raise ConfigFileError(f"{file}{_describe(error)}") from error
        raise yaml.YAMLError(str(error)) from error
    if path and not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "empty" if value is None else "a single value"
        raise ConfigFileError(f"{file} is {kind}; it must be a mapping of sections, such as trainer: {{max_epochs: 3}}")
    return value


def _describe(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        if isinstance(error, NotAllowed):
            return f", line {mark.line + 1}: {error.problem}"
        place = f", line {mark.line + 1}, column {mark.column + 1}"
        return f"{place}: not YAML ({error.problem or error.context}); correct it there"
    reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
    return f": not YAML ({reason}); correct the file"


class NotAllowed(yaml.MarkedYAMLError):
    """YAML that is well-formed but not accepted in a configuration."""

    def __init__(self, problem: str, node: yaml.Node) -> None:
        super().__init__(problem=problem, problem_mark=node.start_mark)


class StrictLoader(yaml.SafeLoader):
    """Plain values only, each key once, and no more values than fit into memory."""

    yaml_implicit_resolvers = get_yaml_default_loader().yaml_implicit_resolvers  # 1e-3 is a number

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            self.count_values(node, {}, set())
        return node

    def count_values(self, node: yaml.Node, counts: dict[int, int], parents: set[int]) -> int:
        """How many values a node stands for, itself included; `counts` has the nodes checked already, by `id`."""
        if id(node) in counts:
            return counts[id(node)]
        if id(node) in parents:
            raise NotAllowed("an alias (*name) inside the value that it names; write its values out", node)
        if not node.tag.startswith(PLAIN) or node.tag.startswith(f"{PLAIN}python"):
            raise NotAllowed(f"the tag {node.tag.replace(PLAIN, '!!')} is not allowed; give plain values", node)
        count = 1 + sum(self.count_values(inner, counts, parents | {id(node)}) for inner in _children(node))
        if count > MAX_VALUES:
            raise NotAllowed(f"aliases (*name) that stand for more than {MAX_VALUES:,} values; write fewer", node)
        counts[id(node)] = count
        return count


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    raise NotAllowed(f"the key {key.value!r} is in line {lines[key.value]} already; keep one", key)
                lines[key.value] = key.start_mark.line + 1
            yield key
            yield value
