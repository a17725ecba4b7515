"""Which stored threshold applies: those of a model folder's `exits.json` and those of a checkpoint.

`operating_points` are for a speed-up by layers, `max_drops` for the largest drop of the metric as measured, and
`guarantees` for a bound on the loss; `calibrate` stores all three. A speed-up of 1 needs none: it is the full depth.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mebert.errors import UserError
from mebert.models.multi_exit import MultiExitModel
from mebert.policies.base import ExitPolicy, policy_from_spec
from mebert.storage.json_values import faults_in
from mebert.storage.model_folder import SPEC_FILE
from mebert.storage.model_spec import ModelSpec
from mebert.storage.operating_point import OperatingPoint, check_max_drop
from mebert.storage.run_folder import RunFolder
from mebert.storage.spec_parts import Expected, Guarantee
from mebert.storage.thresholds import Threshold, numbers_of
from mebert.storage.weight_files import EXITS_FILE

Thresholds = Mapping[str, Mapping[float, Threshold]]
"""Policy name to number (a speed-up by layers, or a largest drop) to threshold."""

SECTIONS = ("operating_points", "max_drops", "guarantees")


def stored_point(
    policy: ExitPolicy, chosen_by: str | None, expected: Mapping[str, Sequence[Expected]]
) -> OperatingPoint:
    """The operating point of a policy at its threshold, with what is stored about it."""
    known = next((one for one in expected.get(policy.name, ()) if one.threshold == policy.threshold), None)
    return OperatingPoint(policy.name, policy.threshold, chosen_by or "the model as it was saved", known)


def load_policy(path: str | Path, model: MultiExitModel) -> ExitPolicy | None:
    """The policy saved in a model folder or Hub id, bound to the model; None if it was saved without one."""
    spec = ModelSpec.read(path).policy
    with faults_in(f"{path}: policy in {SPEC_FILE}"):
        return None if spec is None else policy_from_spec(spec).bind(model)


def stored_threshold(
    policy: str,
    operating_points: Thresholds,
    max_drops: Thresholds,
    speedup: float | None = None,
    max_drop: float | None = None,
    where: str = "with this model",
    instead: str = "give a threshold",
) -> Threshold | None:
    """The threshold that is stored for a speed-up by layers or a largest drop; None where neither is asked for.

    A speed-up of 1 is the full depth, threshold 0, and need not be stored. A largest drop has priority. If it is not
    stored, the error lists those that are, `where` they are stored, and what to do `instead`.
    """
    if max_drop is None and speedup == 1.0:
        return 0.0
    if max_drop is not None:
        asked, stored, what, where = max_drop, max_drops.get(policy, {}), "largest drop", "with this model"
        instead = "run python -m mebert calibrate with max_drop or epsilon on the model"
    elif speedup is not None:
        asked, stored, what = speedup, operating_points.get(policy, {}), "speed-up"
    else:
        return None
    if asked not in stored:
        check_max_drop("max_drop", max_drop)
        known = ", ".join(f"{number:g}" for number in stored) or "none"
        raise UserError(
            f"no {policy} threshold for a {what} of {asked:g} {where} "
            f"(stored: {known}); choose one of these, or {instead}"
        )
    return stored[asked]


def checkpoint_threshold(
    checkpoint: str | Path | None,
    state: Mapping[str, Tensor],
    policy: ExitPolicy,
    operating_points: Thresholds,
    speedup: float | None = None,
    max_drop: float | None = None,
) -> Threshold | None:
    """The threshold at which a checkpoint's policy runs for a speed-up or a largest drop; None where none is asked for.

    Args:
        checkpoint: `<run>/checkpoints/<name>.ckpt`; None where there is no file.
        state: The module's, as in the checkpoint, as are the policy and the operating points.
        policy: Whose threshold it is.
        operating_points: Those that `calibrate` stored in the run's model folder are added.
        speedup: By layers.
        max_drop: Largest drop of the metric; only `calibrate` stores thresholds for it.
    """
    drops = {} if max_drop is None else _spec_beside(str(checkpoint), state, policy).thresholds_for_max_drop()
    points = {} if speedup is None else thresholds_beside(checkpoint, state, policy, operating_points)[0]
    return stored_threshold(
        policy.name, points, drops, speedup, max_drop, "in this checkpoint", "give predictions.threshold"
    )


def thresholds_beside(
    checkpoint: str | Path | None, state: Mapping[str, Tensor], policy: ExitPolicy, operating_points: Thresholds
) -> tuple[dict[str, dict[float, Threshold]], dict[str, dict[float, Threshold]]]:
    """A checkpoint's thresholds by speed-up and by largest drop, those of its run's model folder included.

    Args: as of `checkpoint_threshold`. A folder that belongs to another checkpoint, or none, adds nothing.
    """
    found = {name: dict(own) for name, own in operating_points.items()}
    if checkpoint is None:
        return found, {}
    try:
        spec = _spec_beside(checkpoint, state, policy)
    except UserError:
        return found, {}
    own = found.get(policy.name, {}) | spec.operating_points.get(policy.name, {})
    return {**found, policy.name: dict(sorted(own.items()))}, spec.thresholds_for_max_drop()


def _spec_beside(checkpoint: str | Path, state: Mapping[str, Tensor], policy: ExitPolicy) -> ModelSpec:
    """The spec of the model folder of a checkpoint's run, if it holds the checkpoint's own exits and policy."""
    folder = RunFolder.of_checkpoint(checkpoint).model
    advice = f"calibrate the model with python -m mebert calibrate {folder}, or give predictions.threshold"
    if not (folder / SPEC_FILE).is_file():
        raise UserError(f"max_drop: no calibrated model folder {folder} belongs to {checkpoint}; {advice}")
    for name, saved in load_file(folder / EXITS_FILE).items():
        own = state.get(f"model.{name}")
        if own is None or not torch.equal(saved.to(own.dtype), own.detach().cpu()):
            raise UserError(
                f"max_drop: {folder} holds other exits than {checkpoint} (it is the best checkpoint's): its thresholds "
                "do not fit; give --ckpt_path <run>/checkpoints/best.ckpt, or predictions.threshold"
            )
    spec = ModelSpec.read(folder)
    if _rule(spec.policy, policy) != _rule(policy.spec(), policy):
        raise UserError(
            f"max_drop: {folder} has another {policy.name} than {checkpoint} (calibrate --use): its thresholds do not "
            "fit; classify with EarlyExitClassifier, or give predictions.threshold"
        )
    return spec


def store_thresholds(
    folder: str | Path,
    found: Mapping[str, Mapping[str, Mapping[float, Any]]],
    policies: Iterable[ExitPolicy] = (),
    use: ExitPolicy | None = None,
    chosen_by: str | None = None,
    expected: Mapping[str, Sequence[Expected]] | None = None,
) -> list[str]:
    """Add thresholds to a model folder, in one change; they replace those stored for the same policy and number.

    Args:
        folder: The model folder.
        found: Section to policy to number to a threshold (in `guarantees`: to plain values with `threshold`).
        policies: Those that the thresholds were chosen for.
        use: The policy, threshold and all, that becomes the one that the folder is used with; None keeps its own.
        chosen_by: What chose the threshold of `use`, in words.
        expected: Policy name to what is expected at thresholds.

    Returns:
        The policies whose older thresholds were removed, because `use` replaced the settings that they belong to.

    Raises:
        UserError: The folder's own policy has got other settings meanwhile, which the thresholds do not fit.
    """
    with ModelSpec.change(folder) as spec:
        lost = [] if use is None else _set_policy(spec, use, chosen_by)
        for policy in policies:
            stored = any(policy.name in points for points in found.values())
            if stored and _rule(spec.policy, policy) != _rule(policy.spec(), policy):
                raise UserError(
                    f"{folder} has got another {policy.name} meanwhile, by another command: the thresholds do not fit "
                    "it and were not stored; calibrate again"
                )
        for section in SECTIONS:
            kept: dict[str, dict[float, Any]] = dict(getattr(spec, section))
            for name, points in found.get(section, {}).items():
                given = {n: Guarantee(**value) if section == "guarantees" else value for n, value in points.items()}
                kept[name] = dict(sorted((kept.get(name, {}) | given).items()))
            setattr(spec, section, kept)
        spec.expected = {**spec.expected, **{name: _joined(spec, name, new) for name, new in (expected or {}).items()}}
    return lost


def _joined(spec: ModelSpec, policy: str, new: Sequence[Expected]) -> list[Expected]:
    """What is expected of a policy: a newer pass replaces an older one at the same threshold."""
    known = {one.threshold: one for one in [*spec.expected.get(policy, ()), *new]}
    return [known[threshold] for threshold in sorted(known, key=numbers_of)]


def _set_policy(spec: ModelSpec, policy: ExitPolicy, chosen_by: str | None) -> list[str]:
    """Make a policy a model's own.

    A policy's name means the model's own of that name, with its settings, and else the plain one. So the thresholds
    stored for the old and the new policy are removed if the settings that they belong to (temperatures, weights,
    lambda) are replaced; returns the policies whose thresholds were.
    """
    lost, before = [], spec.policy
    for one in [policy, *([] if before is None else [policy_from_spec(before)])]:
        if _rule(before, one) != _rule(policy.spec(), one):
            gone = [getattr(spec, section).pop(one.name, None) for section in SECTIONS]
            spec.expected.pop(one.name, None)
            lost += [one.name] if any(gone) and one.name not in lost else []
    spec.policy, spec.chosen_by = policy.spec(), chosen_by
    return lost


def _rule(own: Mapping[str, Any] | None, policy: ExitPolicy) -> str:
    """What a policy's name means where the model's own one is `own` (its spec); thresholds left out."""
    stored = None if own is None else policy_from_spec(dict(own))  # with the settings that an older version had not
    plain = next(kind for kind in type(policy).__mro__ if "name" in vars(kind))  # whose name it is
    spec = (stored if stored is not None and stored.name == policy.name else plain()).spec()
    settings = {name: value for name, value in spec["init_args"].items() if name != "threshold"}
    return json.dumps([spec["class_path"], settings], sort_keys=True)
