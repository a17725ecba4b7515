"""Calibration from end to end: open the model and the rows, one pass, choose, print, store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mebert.calibration.costs import PolicyCosts
from mebert.calibration.fitting import fit_policy
from mebert.calibration.points import Calibrated, Request, calibrate_policy
from mebert.commands.calibrate.output import print_calibrated, print_next
from mebert.commands.calibrate.record import record_rows
from mebert.data.loaders import SplitLoaders, open_split
from mebert.data.model_rows import file_data, run_data, task_data, used_for_selection
from mebert.data.tokenised import load_tokenizer
from mebert.errors import UserError
from mebert.inference import PrecisionName, prepare_model, prepare_policy
from mebert.models import MultiExitModel
from mebert.policies import DistanceRatio, Entropy, ExitPolicy, FixedExit, ValueChange, policy_by_name
from mebert.policies.stored_thresholds import load_policy, store_policy, store_thresholds, within_range
from mebert.report.comparison import family
from mebert.report.layout import print_pairs
from mebert.report.next_steps import bench_command
from mebert.runtime.precision import inference_precision, pick_device, pick_precision
from mebert.storage.model_spec import SPEC_FILE, saved_model_folder


@dataclass
class CalibrationSettings:
    """The arguments of `mebert.commands.calibrate.command.calibrate`, where they are explained."""

    model: str
    asked: Sequence[Request]
    task: str | None = None
    file: str | None = None
    split: str = "val"
    text_column: str = "text"
    text_pair_column: str | None = None
    label_column: str = "label"
    max_length: int | None = None
    policies: Sequence[str] | None = None
    precision: PrecisionName | None = None
    batch_size: int = 64
    device: str = "auto"
    save: bool = True
    use: str | None = None

    def __post_init__(self) -> None:
        if self.use is not None and (not self.save or self.use not in (self.policies or ())):
            raise UserError(f"use {self.use!r} must be one of policies ({self.policies}), and save must be true")
        if self.task is not None and self.file is not None:
            raise UserError(f"task and file were both given ({self.task}, {self.file}); give one of them")
        for name in ("batch_size", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if self.guarantees and self.file is None and self.split.startswith("train"):
            raise UserError("split train trained the model, so that no guarantee holds: give another split, or a file")

    @property
    def guarantees(self) -> bool:
        """Whether a guarantee is asked for."""
        return any(request.kind == "guarantee" for request in self.asked)


def run_calibration(settings: CalibrationSettings) -> list[Calibrated]:
    """Choose, print and store thresholds; returns the operating points.

    Raises:
        UserError: A setting that cannot work, or too few rows for a guarantee.
    """
    folder = saved_model_folder(settings.model) if Path(settings.model).is_dir() else None
    if folder is None:
        raise UserError(
            f"model {settings.model!r} is no folder with exits; give a run or its folder model, as `fit` writes them"
        )
    model = MultiExitModel.from_pretrained(folder)
    own = load_policy(folder, model)
    policies = _policies(settings.policies, own, model)
    data = _data(settings, folder, model)
    rows = open_split(data, "val" if settings.file is not None else settings.split)

    device = pick_device(settings.device)
    precision = settings.precision or inference_precision(pick_precision(device.type)[0])
    prepared = prepare_model(model, precision, device=device)
    recorded = {policy.name: prepare_policy(policy, prepared) for policy in policies}
    if model.prototypes is not None:  # some policies are fitted to its scores
        recorded = {DistanceRatio.name: DistanceRatio().bind(prepared)} | recorded
    record = record_rows(prepared, list(recorded.values()), rows, data.collate_for(), settings.batch_size)

    metric = str(getattr(data, "metrics", ["acc"])[0])
    found: list[Calibrated] = []
    fitted: dict[str, ExitPolicy] = {}
    for policy in policies:
        # The model's own policy was fitted when it was trained, and stays as it is.
        kept = own is not None and policy.name == own.name
        chosen, rest = (policy, record) if kept else fit_policy(policy, model, record, settings.guarantees)
        found += calibrate_policy(chosen, settings.asked, PolicyCosts(model, rest, metric))
        if chosen is not policy:
            fitted[chosen.name] = chosen
            held_out = len(record.labels) - len(rest.labels)
            used = held_out or len(record.labels)
            print(f"{chosen.name}: fitted to {used:,} of these rows" + ", held out below" * bool(held_out))
    source = settings.file or f"{settings.task or 'the run'}, {settings.split}"
    print_calibrated(found, metric, f"{len(rows):,} samples of {source} ({precision})")
    _print_notes(settings, model, settings.file is None and used_for_selection(data, settings.split, rows))
    kept_policies = {policy.name: policy for policy in policies} | fitted
    if not (settings.save and _store(settings, folder, found, kept_policies, set(fitted))):
        print_pairs("Next:", {"measure its speed": bench_command(settings.model, model)})
    return found


def _print_notes(settings: CalibrationSettings, model: MultiExitModel, chosen_on: bool) -> None:
    """What to know about the figures; `chosen_on`: the model's checkpoint was chosen on these rows."""
    if model.exit_layers[-1] != model.num_layers:
        print(
            f"Note: speed-ups by layers are relative to all models of the cascade in turn ({model.exit_layers[-1]} "
            "layers), by FLOPs to the last one alone."
        )
    if settings.guarantees and chosen_on:
        test = settings.split.startswith("test")
        rest = "the test rows are the validation rows here: a" if test else "--split test or a"
        print(
            "Note: if these rows chose the model's checkpoint or its policy's settings, the guarantee is weaker than "
            f"stated; {rest} file of other rows gives it in full."
        )


def _store(
    settings: CalibrationSettings,
    folder: str,
    found: Sequence[Calibrated],
    policies: dict[str, ExitPolicy],
    fitted: set[str],
) -> bool:
    """Store the thresholds and, with `use`, the policy; returns whether any threshold was stored."""
    if settings.use is not None:
        _use(folder, policies[settings.use], next(point for point in found if point.policy == settings.use))
    sections: dict[str, dict[str, dict[float, Any]]] = {}
    for point in found:
        # The thresholds of a fitted policy are valid only with what was fitted, which only `use` stores.
        if point.stored is not None and (point.policy not in fitted or point.policy == settings.use):
            section, number, value = point.stored
            sections.setdefault(section, {}).setdefault(point.policy, {})[number] = value
    if sections:
        store_thresholds(folder, sections)
        print(f"Stored: {', '.join(sections)} in {Path(folder) / SPEC_FILE}")
        print_next(folder, sections)
    lost = sorted(fitted - {settings.use})
    if lost:
        print(f"Not stored: {', '.join(lost)}, fitted here; --use {lost[0]} makes it the model's own policy")
    return bool(sections)


def _use(folder: str, policy: ExitPolicy, first: Calibrated) -> None:
    """Make a policy the model's own, at the threshold of the first request; before any of its thresholds is stored."""
    if first.point is None:
        raise UserError(f"use: the policy {policy.name!r} does not attain {first.request}; nothing was stored")
    threshold = within_range(first.point.threshold)
    removed = store_policy(folder, policy.with_threshold(threshold))
    print(f"The model's own policy is now {policy.name}, threshold {threshold:.6g} ({first.request})")
    if removed:
        print(f"Removed: stored thresholds of {', '.join(removed)}, which were for other settings of it")


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
    longest = settings.max_length or min(model.adapter.max_length, load_tokenizer(folder).model_max_length)
    if settings.file is None:
        return task_data(str(settings.task), folder, model, longest)
    columns = settings.text_column, settings.text_pair_column, settings.label_column
    return file_data(settings.file, folder, model, longest, *columns)
