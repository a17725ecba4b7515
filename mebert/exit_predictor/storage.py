"""Exit predictors in a folder, one for each operating point, and the one that fits a policy.

    exit_predictor.json           class, settings, and the operating point of each
    exit_predictor.safetensors    what they have learnt, the n-th one's tensors as "n.<name>"

Nothing in such files is executed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mebert.errors import UserError
from mebert.exit_predictor.base import ExitPredictor, predictor_from_state
from mebert.policies import ExitPolicy

__all__ = ["MISSING", "choose_predictor", "load_predictors", "save_predictors"]

FORMAT = 1
SETTINGS, WEIGHTS = "exit_predictor.json", "exit_predictor.safetensors"
MISSING = (
    "train with --exit_prediction.kind token, or make one with mebert.exit_predictor.fit_predictor and save it with "
    ".save(<model folder>)"
)


def save_predictors(folder: str | Path, predictors: Sequence[ExitPredictor]) -> None:
    """Write predictors into a folder, in place of those that it has; none removes them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).unlink(missing_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    if not predictors:
        return
    states = [predictor.state() for predictor in predictors]
    tensors = {f"{n}.{name}": tensor for n, state in enumerate(states) for name, tensor in state["tensors"].items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    listed = [{key: value for key, value in state.items() if key != "tensors"} for state in states]
    text = json.dumps({"format": FORMAT, "predictors": listed}, indent=2)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def load_predictors(path: str | Path) -> list[ExitPredictor]:
    """The predictors of a folder or Hub id; none where it has none.

    Those that read the model must be bound to it (`bind`) before they predict.

    Raises:
        UserError: What is there cannot be read.
    """
    from transformers.utils import cached_file

    kept: dict[str, Any] = {"_raise_exceptions_for_missing_entries": False}
    settings, weights = (cached_file(str(path), name, **kept) for name in (SETTINGS, WEIGHTS))
    if settings is None or weights is None:
        return []
    try:
        content = json.loads(Path(settings).read_text(encoding="utf-8"))
        tensors = load_file(weights)
    except (ValueError, SafetensorError) as error:
        raise UserError(f"{settings}: this exit predictor cannot be read: {error}") from error
    if content.get("format") != FORMAT:
        raise UserError(f"{settings} has format {content.get('format')!r}; this version of mebert reads {FORMAT}")
    found = []
    for n, state in enumerate(content["predictors"]):
        own = {name.removeprefix(f"{n}."): tensor for name, tensor in tensors.items() if name.startswith(f"{n}.")}
        found.append(predictor_from_state({**state, "tensors": own}))
    return found


def choose_predictor(predictors: Sequence[ExitPredictor], policy: ExitPolicy) -> ExitPredictor:
    """The predictor that learnt from the exits of this policy at its threshold; of one without an origin, that one.

    Args:
        predictors: Those of a checkpoint or a model folder.
        policy: The one that is asked for.

    Raises:
        UserError: There is none; the text says which there are and how to make one.
    """
    for predictor in predictors:
        origin = predictor.origin
        if origin is None or (origin.policy == policy.name and abs(origin.threshold - policy.threshold) < 1e-9):
            return predictor
    if not predictors:
        raise UserError(f"engine predicted: no exit predictor is stored with this model; {MISSING}")
    stored = ", ".join(_described(predictor) for predictor in predictors)
    raise UserError(
        f"engine predicted: no exit predictor for {policy.name} at threshold {policy.threshold:.6g} "
        f"(stored: {stored}); ask for one of these"
    )


def _described(predictor: ExitPredictor) -> str:
    origin = predictor.origin
    assert origin is not None
    speedup = "" if origin.speedup is None else f" ({origin.speedup:g}x)"
    return f"{origin.policy} {origin.threshold:.4g}{speedup}"
