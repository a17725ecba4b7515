"""Calibrated thresholds in a model folder's `exits.json`: written here, read by whoever predicts.

operating_points    policy -> speed-up by layers -> threshold
max_drops           policy -> most drop of the metric, as measured -> threshold
guarantees          policy -> epsilon -> threshold, loss, delta, samples, ...
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mebert.errors import UserError
from mebert.models.pretrained import SETTINGS, WEIGHTS, read_settings
from mebert.policies import ExitPolicy, policy_from_spec

__all__ = [
    "max_drops_beside",
    "points_beside",
    "read_max_drops",
    "read_operating_points",
    "store",
    "store_policy",
    "stored_threshold",
    "threshold_for_max_drop",
]

OperatingPoints = Mapping[str, Mapping[float, float]]

"""Policy name to speed-up by layers to threshold."""


def stored_threshold(
    policy: str,
    operating_points: OperatingPoints,
    speedup: float,
    where: str = "in this checkpoint",
    instead: str = "give predictions.threshold",
    what: str = "speed-up",
) -> float:
    """The threshold that validation data gave for a speed-up by layers (or for a most allowed drop).

    Args:
        policy: Name of the policy.
        operating_points: Policy name to speed-up to threshold, as in the checkpoint.
        speedup: One of those stored.
        where: Where they are stored, in words, for the error.
        instead: What to do instead, likewise.
        what: The number, likewise.

    Raises:
        UserError: It is not stored; the text lists those that are.
    """
    stored = operating_points.get(policy, {})
    if speedup not in stored:
        known = ", ".join(f"{target:g}" for target in stored) or "none"
        raise UserError(
            f"no {policy} threshold for a {what} of {speedup:g} {where} "
            f"(stored: {known}); choose one of these, or {instead}"
        )
    return min(max(stored[speedup], 0.0), 1.0)


def read_operating_points(settings: Mapping[str, object]) -> dict[str, dict[float, float]]:
    """The operating points in the settings of a model folder (`exits.json`), whose keys JSON has made text."""
    return read_thresholds(settings, "operating_points")


def read_thresholds(settings: Mapping[str, object], section: str) -> dict[str, dict[float, float]]:
    """Policy name to number to threshold, from a section of `exits.json`.

    Raises:
        UserError: It holds something else.
    """
    stored: Any = settings.get(section) or {}
    try:
        return {name: {float(s): float(t) for s, t in points.items()} for name, points in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"exits.json: {section} holds no thresholds ({error}); calibrate the model anew") from error


SECTIONS = ("operating_points", "max_drops", "guarantees")


def store(folder: str | Path, found: Mapping[str, Mapping[str, Mapping[float, Any]]]) -> None:
    """Add thresholds to a model folder; those stored for the same policy and number are replaced, all others stay.

    Args:
        folder: Of the model.
        found: Section to policy to number to a threshold (in `guarantees`: to plain values with `threshold`).
    """
    settings = read_settings(str(folder))
    for section in SECTIONS:
        kept = settings.setdefault(section, {})
        for policy, points in found.get(section, {}).items():
            merged = {float(number): value for number, value in (kept.get(policy) or {}).items()} | dict(points)
            kept[policy] = dict(sorted(merged.items()))
    _write(folder, settings)


def store_policy(folder: str | Path, policy: ExitPolicy) -> list[str]:
    """Make a policy, threshold and all, the one that a model folder is used with.

    A policy's name means the model's own of that name, with its settings, and else the plain one. So the thresholds
    stored for the old and the new policy go where the settings that they belong to (temperatures, weights, lambda) do.

    Returns:
        The policies whose stored thresholds went.
    """
    settings = read_settings(str(folder))
    before = settings["policy"]
    lost = []
    for one in [policy, *([] if before is None else [policy_from_spec(before)])]:
        if _rule(before, one) != _rule(policy.spec(), one):
            gone = [settings.get(section, {}).pop(one.name, None) for section in SECTIONS]
            lost += [one.name] if any(gone) and one.name not in lost else []
    settings["policy"] = policy.spec()
    _write(folder, settings)
    return lost


def _rule(own: Mapping[str, Any] | None, policy: ExitPolicy) -> str:
    """What a policy's name means where the model's own one is `own` (its spec); thresholds left out."""
    named = own is not None and policy_from_spec(dict(own)).name == policy.name
    spec = own if named and own is not None else type(policy)().spec()
    settings = {name: value for name, value in spec["init_args"].items() if name != "threshold"}
    return json.dumps([spec["class_path"], settings], sort_keys=True)


def _write(folder: str | Path, settings: Mapping[str, Any]) -> None:
    path = Path(folder) / SETTINGS
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)  # a folder is never without its settings


def read_max_drops(settings: Mapping[str, Any]) -> dict[str, dict[float, float]]:
    """Policy to drop to threshold, from the settings of a model folder; a promise wins over a measurement."""
    drops: dict[str, dict[float, float]] = {}
    for policy, points in (settings.get("max_drops") or {}).items():
        drops.setdefault(policy, {}).update({float(drop): float(threshold) for drop, threshold in points.items()})
    for policy, promises in (settings.get("guarantees") or {}).items():
        drops.setdefault(policy, {}).update({float(e): float(p["threshold"]) for e, p in promises.items()})
    return drops


def max_drops_beside(
    checkpoint: str | Path, state: Mapping[str, Tensor], policy: ExitPolicy
) -> dict[str, dict[float, float]]:
    """The drops stored in the model folder of a checkpoint's run, if that folder holds the checkpoint's own weights.

    Args:
        checkpoint: `<run>/checkpoints/<name>.ckpt`.
        state: The module's, as in the checkpoint; exits are compared, as any step of training changes them.
        policy: The checkpoint's.

    Raises:
        UserError: There is no such folder, its exits are those of another checkpoint, or its thresholds for the policy
            are for other settings of it.
    """
    return read_max_drops(_settings_beside(checkpoint, state, policy))


def points_beside(
    checkpoint: str | Path | None,
    state: Mapping[str, Tensor],
    policy: ExitPolicy,
    points: Mapping[str, Mapping[float, float]],
) -> dict[str, dict[float, float]]:
    """A checkpoint's operating points, with those that `calibrate` stored for its policy in its run's model folder.

    Args:
        checkpoint: As in `max_drops_beside`; None where there is none.
        state: As there.
        policy: The checkpoint's.
        points: Policy name to speed-up to threshold, of the checkpoint: all there is where there is no such folder, or
            another checkpoint's.
    """
    found = {name: dict(own) for name, own in points.items()}
    try:
        stored = {} if checkpoint is None else read_operating_points(_settings_beside(checkpoint, state, policy))
    except UserError:
        return found
    found.setdefault(policy.name, {}).update(stored.get(policy.name, {}))
    return {**found, policy.name: dict(sorted(found[policy.name].items()))}


def _settings_beside(checkpoint: str | Path, state: Mapping[str, Tensor], policy: ExitPolicy) -> dict[str, Any]:
    """The settings of the model folder beside a checkpoint; arguments and errors as of `max_drops_beside`."""
    folder = Path(checkpoint).parent.parent / "model"
    advice = f"calibrate the model with python -m mebert calibrate --model {folder}, or give predictions.threshold"
    if not (folder / SETTINGS).is_file():
        raise UserError(f"max_drop: no calibrated model folder {folder} belongs to {checkpoint}; {advice}")
    for name, saved in load_file(folder / WEIGHTS).items():
        own = state.get(f"model.{name}")
        if own is None or not torch.equal(saved.to(own.dtype), own.detach().cpu()):
            raise UserError(
                f"max_drop: {folder} holds other exits than {checkpoint} (it is the best checkpoint's): its thresholds "
                "do not fit; give --ckpt_path <run>/checkpoints/best.ckpt, or predictions.threshold"
            )
    settings = read_settings(str(folder))
    if _rule(settings["policy"], policy) != _rule(policy.spec(), policy):
        raise UserError(
            f"max_drop: {folder} has another {policy.name} than {checkpoint} (calibrate --use): its thresholds do not "
            "fit; classify with EarlyExitClassifier, or give predictions.threshold"
        )
    return settings


def threshold_for_max_drop(policy: str, max_drops: Mapping[str, Mapping[float, float]], max_drop: float) -> float:
    """The threshold stored for a most allowed drop.

    Raises:
        UserError: None is; the text lists those that are.
    """
    advice = "run python -m mebert calibrate with max_drop or epsilon on the model"
    return stored_threshold(policy, max_drops, max_drop, "with this model", advice, "largest drop")
