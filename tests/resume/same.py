"""Whether two trainings have ended in the same state, to the last bit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from mebert.storage.checkpoints import read_checkpoint

__all__ = ["differences", "end_of", "validations"]

COMPARED = ("state_dict", "optimizer_states", "lr_schedulers", "resume", "mebert", "epoch", "global_step")
DATA = "SyntheticCurriculumDataModule"  # its difficulty table


def end_of(experiment: Path) -> dict[str, Any]:
    """The last and the best checkpoint of an experiment's newest run, without paths and Lightning's counters."""
    found: dict[str, Any] = {}
    content: dict[str, Any] = {}
    for name in ("best", "last"):
        paths = experiment.glob(f"version_*/checkpoints/{name}.ckpt")
        content = read_checkpoint(max(paths, key=lambda path: path.stat().st_mtime_ns))
        found[name] = {key: content[key] for key in (*COMPARED, DATA) if key in content}
    (state,) = (value for key, value in content["callbacks"].items() if key.startswith("ModelCheckpoint"))
    return {**found, "score": float(state["best_model_score"])}


def validations(experiment: Path) -> dict[int, dict[str, str]]:
    """What every validation has measured, by its step, over the runs of an experiment: the newest counts."""
    found: dict[int, dict[str, str]] = {}
    runs = sorted(experiment.glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    for path in (run / "metrics.csv" for run in runs if (run / "metrics.csv").is_file()):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                # FLOPs are counted once a run, at its first validation.
                values = {k: v for k, v in row.items() if k.startswith("val") and v and not k.endswith("gflops")}
                if values:
                    found.setdefault(int(row["step"]), {}).update(values)
    return found


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where they differ, at any depth; a NaN equals a NaN."""
    if type(one) is not type(other):
        return [where]
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return [] if same and torch.equal(one.nan_to_num(7.0), other.nan_to_num(7.0)) else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: {sorted(map(str, one.keys() ^ other.keys()))}"]
        return [place for key in one for place in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [where]
        pairs = enumerate(zip(one, other, strict=True))
        return [place for number, pair in pairs for place in differences(*pair, f"{where}/{number}")]
    return [] if one == other or (one != one and other != other) else [where]
