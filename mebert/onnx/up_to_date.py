"""Whether an export is of a model as it is now: what of the model its manifest keeps, and what has changed since."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mebert.storage.json_values import read_json
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import RunFolder
from mebert.storage.thresholds import as_threshold
from mebert.storage.weight_files import weights_digest

MANIFEST = "manifest.json"
SAME = {
    "labels": "other labels",
    "exit_layers": "other exits",
    "weights": "other weights",
    "max_length": "another length to which texts are cut",
    "stride": "other windows of long texts",
    "policy": "another policy or threshold",
    "operating_points": "other stored speed-ups",
    "max_drops": "other stored drops",
}
"""What must be the same, and what to call it where it is not."""
NOT_ON_TOP = ("weights", "max_length", "policy")  # a manifest has them in `model`: of the model, not of the export


def state_of(folder: str | Path, policy: str) -> dict[str, Any]:
    """What a manifest keeps of the model folder that is exported, in plain values, by the names of `SAME`.

    Args:
        folder: A model folder.
        policy: Name of its policy.
    """
    spec = ModelSpec.read(folder)
    state = {
        "labels": spec.label_names,
        "exit_layers": spec.exit_layers,
        "weights": weights_digest(folder),
        "max_length": spec.max_length,
        "stride": spec.stride,
        "policy": spec.policy,
        "operating_points": _by_text(spec.operating_points.get(policy, {})),
        "max_drops": _by_text(spec.thresholds_for_max_drop().get(policy, {})),
    }
    return dict(json.loads(json.dumps(state)))


def what_changed(export: str | Path, folder: str | Path) -> str | None:
    """In which way an export is not of a model folder as it is now, in words; None: it is.

    An export of an earlier mebert says less of its model, of which no more is compared.

    Args:
        export: A folder of `export`.
        folder: The model's.
    """
    manifest = read_json(Path(export) / MANIFEST)
    own = manifest.get("policy") or {}
    now = state_of(folder, own.get("name", ""))
    then = {name: manifest[name] for name in SAME if name in manifest and name not in NOT_ON_TOP}
    then |= manifest.get("model", {})
    if "policy" not in then:
        threshold = (now["policy"] or {}).get("init_args", {}).get("threshold")
        then["policy"] = now["policy"]
        if threshold is None or as_threshold(threshold) != as_threshold(own.get("threshold", -1.0)):
            return SAME["policy"]
    return next((words for name, words in SAME.items() if name in then and then[name] != now[name]), None)


def export_command(export: str | Path, folder: str | Path) -> str:
    """The command that writes an export, which is where it belongs, again.

    Args:
        export: The old one, by whose settings.
        folder: The model's, `<run>/model` or one that is in no run.
    """
    run, manifest = RunFolder.of_model(folder), read_json(Path(export) / MANIFEST)
    named = run.path if run.config.is_file() and run.model == Path(folder) else folder
    precision = "" if manifest.get("precision") == "float32" else f" --precision {manifest.get('precision')}"
    single = " --single_graph" if "single_graph" in manifest else ""
    return f"python -m mebert export {shlex.quote(str(named))}{precision}{single}"


def _by_text(points: Mapping[float, Any]) -> dict[str, Any]:
    """Thresholds by their numbers, as the keys of JSON."""
    return {f"{number:g}" if float(f"{number:g}") == number else repr(number): t for number, t in points.items()}
