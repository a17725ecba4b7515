"""mebert: early-exit BERT. Train a multi-exit encoder, pick an operating point, run it at that speed.

The public names stand in `__init__.pyi`, once, for type checkers and for the program: each is imported when it is first
used, so that `import mebert` stays cheap (as https://scientific-python.org/specs/spec-0001/ has it).
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

from mebert.storage.aliases import install

__version__ = "0.2.0"

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
MODULE_OF = {i.name: str(node.module) for node in _STUB.body if isinstance(node, ast.ImportFrom) for i in node.names}

__all__ = ["__version__", *MODULE_OF]

install()


def __getattr__(name: str) -> Any:
    if name in MODULE_OF:
        return getattr(import_module(MODULE_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
