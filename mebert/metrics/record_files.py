"""A recorded pass as a file: the logits of every exit and the scores of every policy.

Shapes: E exits, N samples, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord
from mebert.storage.atomic import atomic_path

REQUIRED = ("logits", "labels", "index", "lengths")
OPTIONAL = ("difficulty", "queries", "temperatures")


def record_tensors(record: ExitRecord) -> dict[str, Tensor]:
    """The record as named tensors: `logits`, `labels`, `index`, `lengths`, `scores/<policy>`, ..."""
    tensors = {name: getattr(record, name) for name in REQUIRED}
    tensors |= {name: value for name in OPTIONAL if (value := getattr(record, name)) is not None}
    tensors |= {f"scores/{name}": value for name, value in record.scores.items()}
    tensors |= {f"answers/{name}": value for name, value in record.answers.items()}
    tensors |= {f"predicted/{number}": value for number, value in enumerate(record.predicted)}
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def record_from_tensors(tensors: Mapping[str, Tensor]) -> ExitRecord:
    """The record of tensors from `record_tensors`; a UserError if one that every record has is missing."""
    missing = [name for name in REQUIRED if name not in tensors]
    if missing:
        raise UserError(f"not a recorded pass: it lacks {', '.join(missing)}")
    several = tensors["labels"].ndim == 2
    rows = {tuple(tensors[name].shape[:1]) for name in ("labels", "index", "lengths")}
    if tensors["logits"].ndim != 3 + several or rows != {(tensors["logits"].shape[1],)}:
        raise UserError("not a recorded pass: its tensors are not of the same rows")
    predicted = sorted((int(n.partition("/")[2]), t) for n, t in tensors.items() if n.startswith("predicted/"))
    return ExitRecord(
        **{name: tensors[name] for name in REQUIRED},
        scores={n.partition("/")[2]: t for n, t in tensors.items() if n.startswith("scores/")},
        **{name: tensors.get(name) for name in OPTIONAL},  # type: ignore[arg-type]
        predicted=[tensor for _, tensor in predicted],
        answers={n.partition("/")[2]: t for n, t in tensors.items() if n.startswith("answers/")},
    )


def save_record(record: ExitRecord, path: str | Path, about: Mapping[str, Any]) -> None:
    """Write a record as safetensors, with plain values for JSON `about` it, such as the split's name."""
    with atomic_path(Path(path)) as unfinished:
        save_file(record_tensors(record), unfinished, metadata={"about": json.dumps(dict(about))})


def load_record(path: str | Path) -> tuple[ExitRecord, dict[str, Any]]:
    """The record of a file and its `about`; a UserError if there is no such file, or it is not a recorded pass."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; `python -m mebert test` writes it into the run's folder")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            about = json.loads((file.metadata() or {}).get("about", "{}"))
    except (SafetensorError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a recorded pass: {error}; test the run again") from error
    try:
        return record_from_tensors(tensors), about
    except UserError as error:
        raise UserError(f"{path}: {error}; test the run again") from error
