"""Ways in which files go wrong, each a callable that is given the path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

__all__ = ["checkpoint", "gone", "half", "json_with", "json_without", "tensors_with", "zero_bytes"]

Damage = Callable[[Path], object]


def half(path: Path) -> None:
    """Keep the first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def gone(path: Path) -> None:
    """Remove it."""
    path.unlink()


def zero_bytes(path: Path) -> None:
    """Keep nothing."""
    path.write_bytes(b"")


def json_with(**values: Any) -> Damage:
    """Change values of a JSON file."""
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | values))


def json_without(*names: str) -> Damage:
    """Take values out of a JSON file."""

    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in content.items() if key not in names}))

    return change


def tensors_with(**values: Any) -> Damage:
    """Change a safetensors file; None takes a tensor out."""

    def change(path: Path) -> None:
        tensors = load_file(path) | {name.replace("__", "."): value for name, value in values.items()}
        save_file({name: value for name, value in tensors.items() if value is not None}, path)

    return change


def checkpoint(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change the content of a checkpoint."""

    def rewrite(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return rewrite
