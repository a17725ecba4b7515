"""Calibration from end to end: open the model and the rows, one pass, choose, print, store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mebert.calibration.fitting import fitted_apart
from mebert.calibration.points import Calibrated, Request, calibrate_policy
from mebert.commands.calibrate.output import print_calibrated, print_next
from mebert.commands.calibrate.record import record_rows
from mebert.data.loaders import SplitLoaders, open_split
from mebert.data.model_rows import chose_the_model, file_data, run_data, task_data
from mebert.data.tokenised import load_tokenizer
from mebert.errors import UserError
from mebert.inference import PrecisionName, prepare_model, prepare_policy
from mebert.models import MultiExitModel, load_policy
from mebert.models.pretrained import multi_exit_folder
from mebert.policies import DistanceRatio, Entropy, ExitPolicy, FixedExit, ValueChange, policy_by_name
from mebert.policies.stored_thresholds import store, store_policy
from mebert.report.comparison import family
from mebert.report.evaluation import PolicyCosts
from mebert.report.layout import print_pairs
from mebert.report.next_steps import bench_command
from mebert.runtime.precision import inference_precision, pick_device, pick_precision

__all__ = ["CalibrationSettings", "run_calibration"]


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
        if self.promises and self.file is None and self.split.startswith("train"):
            raise UserError("the train split trained the model and promises nothing: give another split, or a file")

    @property
    def promises(self) -> bool:
        """Whether a guarantee is asked for."""
        return any(request.kind == "guarantee" for request in self.asked)


def run_calibration(settings: CalibrationSettings) -> list[Calibrated]:
    """Choose, print and store; returns the answers.

    Raises:
        UserError: A setting that cannot work, or a guarantee that the split is too small for.
    """
    folder = _own_folder(settings.model)
    model = MultiExitModel.from_pretrained(folder)
    policies = _policies(settings.policies, folder, model)
    data = _data(settings, folder, model)
    rows = open_split(data, "val" if settings.file is not None else settings.split)

    device = pick_device(settings.device)
    precision = settings.precision or inference_precision(pick_precision(device.type)[0])
    prepared = prepare_model(model, precision, device=device)
    live = [prepare_policy(policy, prepared) for policy in policies]
    read = [DistanceRatio().bind(prepared)] if model.prototypes is not None else []  # what some of them are made of
    asked = {policy.name: policy for policy in (*read, *live)}
    record = record_rows(prepared, list(asked.values()), rows, data.collate_for(), settings.batch_size)

    metric = str(getattr(data, "metrics", ["acc"])[0])
    own = load_policy(folder, model)
    found, chosen, fitted = [], {}, set()
    for policy in policies:
        # The model's own policy was fitted when it was trained, and stays as it is.
        kept = own is not None and policy.name == own.name
        ready, its_rows = (policy, record) if kept else fitted_apart(policy, model, record, settings.promises)
        found += calibrate_policy(ready, settings.asked, PolicyCosts(model, its_rows, metric))
        chosen[ready.name] = ready
        if ready is not policy:
            fitted.add(ready.name)
            left = len(record.labels) - len(its_rows.labels)
            print(
                f"{ready.name}: fitted to {left or len(record.labels):,} of these rows"
                + ", left out below" * bool(left)
            )
    print_calibrated(found, metric, f"{len(rows):,} samples of {_source(settings)} ({precision})")
    if model.exit_layers[-1] != model.num_layers:
        print(
            f"Note: by layers speed counts against all models of the cascade in turn ({model.exit_layers[-1]} layers), "
            "by FLOPs against the last one alone."
        )
    if settings.promises and settings.file is None and chose_the_model(data, settings.split, rows):
        test = settings.split.startswith("test")
        rest = "the test rows are the validation rows here: a" if test else "--split test or a"
        print(
            "Note: if these rows chose the model's checkpoint or its policy's settings, the promise is weaker than it "
            f"reads; {rest} file of other rows gives it in full."
        )
    stored = False
    if settings.save:
        if settings.use is not None:
            _use(folder, chosen[settings.use], next(answer for answer in found if answer.policy == settings.use))
        sections: dict[str, dict[str, dict[float, Any]]] = {}
        for answer in found:
            # A fitted policy's thresholds mean nothing without what was fitted, which `use` alone keeps.
            if answer.stored is not None and (answer.policy not in fitted or answer.policy == settings.use):
                section, number, value = answer.stored
                sections.setdefault(section, {}).setdefault(answer.policy, {})[number] = value
        if sections:
            store(folder, sections)
            print(f"Stored: {', '.join(sections)} in {Path(folder) / 'exits.json'}")
            print_next(folder, sections)
            stored = True
        lost = sorted(fitted - {settings.use})
        if lost:
            print(f"Not stored: {', '.join(lost)}, fitted here; --use {lost[0]} makes it the model's own policy")
    if not stored:
        print_pairs("Next:", {"measure its speed": bench_command(settings.model, model)})
    return found


def _use(folder: str, policy: ExitPolicy, first: Calibrated) -> None:
    """Make a policy the model's own, at the threshold of the first thing asked for; before any of its is stored."""
    if first.point is None:
        raise UserError(f"use: the policy {policy.name!r} does not attain {first.request}; nothing was stored")
    threshold = min(max(first.point.threshold, 0.0), 1.0)
    lost = store_policy(folder, policy.with_threshold(threshold))
    print(f"The model's own policy is now {policy.name}, threshold {threshold:.6g} ({first.request})")
    if lost:
        print(f"Taken out: stored thresholds of {', '.join(lost)}, which were for other settings of it")


def _own_folder(model: str) -> str:
    folder = multi_exit_folder(model) if Path(model).is_dir() else None
    if folder is None:
        raise UserError(
            f"model {model!r} is no folder with exits; give a run or its folder model, as `fit` writes them"
        )
    return folder


def _policies(names: Sequence[str] | None, folder: str, model: MultiExitModel) -> list[ExitPolicy]:
    """The policies with these names; the model's own keeps its settings. None: the model's own."""
    own = load_policy(folder, model)
    if names is None:
        default: ExitPolicy = ValueChange() if model.num_labels == 1 else Entropy()
        found = [default.bind(model) if own is None else own]
    else:
        if not names or len(set(names)) < len(names):
            raise UserError(f"policies must be one or more different ones, got {list(names)}")
        ours = family(model)
        found = [own if own and own.name == n else ours.get(n) or policy_by_name(n)().bind(model) for n in names]
    fixed = [policy.name for policy in found if isinstance(policy, FixedExit)]
    if fixed:
        raise UserError(f"the policy {fixed[0]!r} has no threshold to choose; name others by policies")
    return found


def _data(settings: CalibrationSettings, folder: str, model: MultiExitModel) -> SplitLoaders:
    if settings.task is None and settings.file is None:
        return run_data(folder, model)
    # By default as long as the classifier reads them, so that what is promised is what runs.
    longest = settings.max_length or min(model.adapter.max_length, load_tokenizer(folder).model_max_length)
    if settings.task is not None:
        return task_data(settings.task, folder, model, longest)
    assert settings.file is not None
    columns = settings.text_column, settings.text_pair_column, settings.label_column
    return file_data(settings.file, folder, model, longest, *columns)


def _source(settings: CalibrationSettings) -> str:
    if settings.file is not None:
        return settings.file
    return f"{settings.task or 'the run'}, {settings.split}"
