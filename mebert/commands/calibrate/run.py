"""Calibration from end to end: open the model and the rows, one pass, choose, print, store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mebert.calibration.costs import PolicyCosts
from mebert.calibration.fitting import fit_policy
from mebert.calibration.points import Calibrated, Request, calibrate_policy, requests
from mebert.commands.calibrate.command import CalibrationSettings
from mebert.commands.calibrate.output import print_calibrated, print_in_use, print_next
from mebert.data.loaders import SplitLoaders, open_split
from mebert.data.model_rows import file_data, run_data, task_data, trained_length, used_for_selection
from mebert.errors import UserError
from mebert.inference import prepare_model, prepare_policy
from mebert.inference.record import record_rows
from mebert.models import MultiExitModel
from mebert.onnx.backend import is_exported
from mebert.onnx.up_to_date import export_command, what_changed
from mebert.policies import DistanceRatio, Entropy, ExitPolicy, FixedExit, ValueChange, policy_by_name
from mebert.policies.stored_thresholds import load_policy, store_thresholds
from mebert.report.comparison import family
from mebert.report.layout import print_pairs
from mebert.report.next_steps import bench_command
from mebert.runtime.precision import inference_precision, pick_device, pick_precision
from mebert.storage.model_folder import SPEC_FILE
from mebert.storage.run_folder import export_folder, find_model
from mebert.storage.stored_weights import trained_folder
from mebert.storage.thresholds import threshold_text


def run_calibrate(settings: CalibrationSettings) -> None:
    """Meet the requests that the settings name."""
    values = {kind: getattr(settings, kind) for kind in ("speedup", "speedup_flops", "layers", "gflops", "max_drop")}
    how = settings.p_value, settings.correction
    run_calibration(settings, requests(settings.delta, settings.loss, settings.epsilon, *how, **values))


def run_calibration(settings: CalibrationSettings, asked: Sequence[Request]) -> list[Calibrated]:
    """Choose, print and store thresholds; returns the operating points."""
    guarantees = any(request.kind == "guarantee" for request in asked)
    if guarantees and settings.file is None and settings.split.startswith("train"):
        raise UserError("split train trained the model, so that no guarantee holds: give another split, or a file")
    name = str(settings.model)
    named = find_model(name)
    if settings.save and named.on_hub:
        raise UserError(f"model {name} is on the Hub, where nothing can be stored: add --save false, or download it")
    folder = trained_folder(named)
    model = MultiExitModel.from_pretrained(folder)
    own = load_policy(folder, model)
    policies = {policy.name: policy for policy in _policies(settings.policies, own, model)}
    data = _data(settings, folder, model)
    rows = open_split(data, "val" if settings.file is not None else settings.split)

    device = pick_device(settings.device)
    precision = settings.precision or inference_precision(pick_precision(device.type)[0])
    prepared = prepare_model(model, precision, device=device)
    recorded = {policy.name: prepare_policy(policy, prepared) for policy in policies.values()}
    if model.prototypes is not None:  # some policies are fitted to its scores
        recorded = {DistanceRatio.name: DistanceRatio().bind(prepared)} | recorded
    record = record_rows(prepared, list(recorded.values()), rows, data.collate_for(), settings.batch_size)

    metric = str(getattr(data, "metrics", ["acc"])[0])
    source = settings.file or f"{settings.task or 'the run'}, {settings.split}"
    found, fitted = list[Calibrated](), set[str]()
    for policy in list(policies.values()):
        # The model's own policy was fitted when it was trained, and stays as it is.
        keep = own is not None and policy.name == own.name
        chosen, fitting, rest = fit_policy(policy, model, record, guarantees, keep, settings.per_exit)
        fitting, answered = (rows.answered_by(chosen.name) for rows in (fitting, rest))
        shaped_on = PolicyCosts(model, fitting, metric) if settings.per_exit else None
        found += calibrate_policy(chosen, asked, PolicyCosts(model, answered, metric), source, shaped_on)
        if chosen is not policy:
            policies[chosen.name] = chosen
            fitted.add(chosen.name)
            held_out = len(record.labels) - len(rest.labels)
            print(
                f"{chosen.name}: fitted to {held_out or len(record.labels):,} of these rows"
                + ", held out below" * bool(held_out)
            )
    print_calibrated(found, metric, f"{len(rows):,} samples of {source} ({precision})", model.multi_label)
    if model.exit_layers[-1] != model.num_layers:
        print(
            f"Note: speed-ups by layers are relative to all models of the cascade in turn ({model.exit_layers[-1]} "
            "layers), by FLOPs to the last one alone."
        )
    if guarantees and settings.file is None and used_for_selection(data, settings.split, rows):
        test = settings.split.startswith("test")
        others = "the test rows are the validation rows here: a" if test else "--split test or a"
        print(
            "Note: if these rows chose the model's checkpoint or its policy's settings, the guarantee is weaker than "
            f"stated; {others} file of other rows gives it in full."
        )
    sections = _store(settings.use, folder, found, policies, fitted) if settings.save else {}
    print_in_use(folder, model)
    _tell_of_export(folder)
    if sections:
        print_next(name, settings.use or (None if own is None else own.name), sections)
    else:
        print_pairs("Next:", {"measure its speed": bench_command(name)})
    return found


def _tell_of_export(folder: str) -> None:
    """Say where the export of a model folder is not of the model as it is now, and how to write it again."""
    export = export_folder(folder)
    if export is not None and is_exported(export) and (changed := what_changed(export, folder)):
        again = export_command(export, folder)
        print(f"Note: {export} has {changed} than the model has now; --backend auto no longer uses it: {again}")


def _store(
    use: str | None, folder: str, found: Sequence[Calibrated], policies: dict[str, ExitPolicy], fitted: set[str]
) -> dict[str, dict[str, dict[float, Any]]]:
    """Store the thresholds and, with `use`, the policy; returns the thresholds by section, policy and number."""
    own = first = None
    if use is not None:
        first = next(point for point in found if point.policy == use)
        if first.point is None:
            raise UserError(f"use: the policy {use!r} does not attain {first.request}; nothing was stored")
        own = policies[use].with_threshold(first.point.threshold)
    sections: dict[str, dict[str, dict[float, Any]]] = {}
    for point in found:
        # The thresholds of a fitted policy are valid only with what was fitted, which only `use` stores.
        if point.stored is not None and (point.policy not in fitted or point.policy == use):
            section, number, value = point.stored
            sections.setdefault(section, {}).setdefault(point.policy, {})[number] = value
    stored = {name for points in sections.values() for name in points} | ({use} if use else set())
    expected = {name: [p.expected for p in found if p.policy == name and p.expected is not None] for name in stored}
    removed = list[str]()
    if sections or own is not None:
        by = None if first is None else f"calibrate, {first.request}"
        removed = store_thresholds(folder, sections, policies.values(), own, by, expected)
    if own is not None and first is not None:
        print(f"The model's own policy is now {use}, threshold {threshold_text(own.threshold)} ({first.request})")
    if removed:
        print(f"Removed: stored thresholds of {', '.join(removed)}, which were for other settings of it")
    if sections:
        print(f"Stored: {', '.join(sections)} in {Path(folder) / SPEC_FILE}")
    lost = sorted(fitted - {use})
    if lost:
        print(f"Not stored: {', '.join(lost)}, fitted here; --use {lost[0]} makes it the model's own policy")
    return sections


def _policies(names: Sequence[str] | None, own: ExitPolicy | None, model: MultiExitModel) -> list[ExitPolicy]:
    """The policies with these names; the model's own keeps its settings. None: the model's own."""
    if names is None:
        default: ExitPolicy = ValueChange() if model.num_labels == 1 else Entropy()
        found = [default.bind(model) if own is None else own]
    else:
        if not names or len(set(names)) < len(names):
            raise UserError(f"policies must be one or more different ones, got {list(names)}")
        known = family(model) | ({} if own is None else {own.name: own})
        found = [known.get(name) or policy_by_name(name)().bind(model) for name in names]
    fixed = [policy.name for policy in found if isinstance(policy, FixedExit)]
    if fixed:
        raise UserError(f"the policy {fixed[0]!r} has no threshold to choose; name others by policies")
    return found


def _data(settings: CalibrationSettings, folder: str, model: MultiExitModel) -> SplitLoaders:
    if settings.task is None and settings.file is None:
        return run_data(folder, model)
    # By default as long as EarlyExitClassifier reads them, so that guarantees hold for it.
    longest = settings.max_length or trained_length(folder, model)
    if settings.file is None:
        return task_data(str(settings.task), folder, model, longest)
    columns = settings.text_column, settings.text_pair_column, settings.label_column
    return file_data(settings.file, folder, model, longest, *columns)
