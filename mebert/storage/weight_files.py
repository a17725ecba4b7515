"""The files that hold a model folder's weights, and their digests; without PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path

EXITS_FILE = "exits.safetensors"
PATTERNS = ("model*.safetensors", EXITS_FILE)  # the encoder, as transformers writes it, and the exits


def weight_files(folder: str | Path) -> dict[str, Path]:
    """Name to path."""
    return {path.name: path for pattern in PATTERNS for path in sorted(Path(folder).glob(pattern))}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(folder: str | Path) -> str:
    """SHA-256 of the names and contents of all of a folder's weights: another one where they were trained further."""
    files = weight_files(folder)
    return hashlib.sha256("".join(f"{name} {file_digest(files[name])}\n" for name in files).encode()).hexdigest()
