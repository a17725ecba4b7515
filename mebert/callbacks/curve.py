"""The accuracy-speed curve: thresholds chosen on validation data, the curve reported on test data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from mebert.calibration.costs import PolicyCosts
from mebert.callbacks.base import BatchPlace, SplitCallback, main_metrics
from mebert.callbacks.recorder import ExitRecorder
from mebert.callbacks.threshold_check import check_monitors, warn_if_useless, warn_of_missing
from mebert.callbacks.wall_clock import WallClock
from mebert.errors import check_range
from mebert.metrics.curve import CurvePoint, ExitRecord
from mebert.modules.base import stage_prefix
from mebert.modules.fitted_indicators import check_rows
from mebert.report.comparison import best_policy, compare_policies
from mebert.report.evaluation import Evaluation, curve_of, evaluate, prediction_reports
from mebert.report.files import log_scalars, write_files
from mebert.report.model_parts import parts_of_record
from mebert.report.reliability import add_reliability
from mebert.report.run_report import print_report, write_report
from mebert.storage.run_folder import run_folder

if TYPE_CHECKING:
    from mebert.modules import MultiExitModule


class AccuracySpeedCurve(SplitCallback):
    """Chooses operating points after each validation and reports the whole curve after a test.

    After each validation epoch the module chooses its thresholds on the first validation split
    (`choose_operating_points`); `val/auc_<policy>` is the area under each curve, `val/auc` that of the module's own
    policy. After a test, the full model and the operating points are printed; everything else goes to the run's folder
    (`report.md`, `curve.csv`, `curve.png`, `evaluation.json`; a second test split adds its name): the curves of the
    module's policy and of plain entropy with thresholds from validation data, 95 % bootstrap intervals, agreement with
    the full model, shares of samples at each exit, and of classes precision, recall, F1 and the confusion matrix.

    The wall-clock speed-up is measured in turn, in one process, on batches spread over the test split.

    Args:
        points: Target speed-ups by layers, each at least 1, at which thresholds are chosen and reported.
        wall_samples: Test samples, at most, on which wall-clock times are measured, about a second for each point; 0
            measures none.
        wall_rounds: Rounds of the measurement; a speed-up is shown where they differ by less than the points do.
        wall_budget: Seconds that the measurement may take, about.
        policies: After a test, the policies to compare, by name; null compares all that fit the model. What they have
            to choose is chosen on the validation pass that the checkpoint keeps.
        fit_indicators: Fit prototypes and a learning-to-exit head to the training rows before each validation where
            the recipe trains none, so that the policies `dr`, `edr` and `learned` can be compared (a policy of the
            module that needs them has them anyway). In a regression, and where rows have several labels, the head
            alone.
        verbose: Print all tables of `report.md`, too.
    """

    def __init__(
        self,
        points: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0),
        wall_samples: int = 2048,
        wall_rounds: int = 5,
        wall_budget: float = 30.0,
        policies: list[str] | None = None,
        fit_indicators: bool = False,
        verbose: bool = False,
    ) -> None:
        for point in points:
            check_range("every speed-up of curve.points", point, 1)
        check_range("curve.wall_samples", wall_samples, 0)
        check_range("curve.wall_rounds", wall_rounds, 1)
        check_range("curve.wall_budget", wall_budget, 0)
        self.points = tuple(sorted(set(points)))
        self.policies = policies
        self.fit_indicators = fit_indicators
        self.verbose = verbose
        # Stage to split to the module's policy at its threshold and the plain model's mean GFLOPs.
        self.current: dict[str, dict[str, tuple[CurvePoint, float]]] = {"val": {}, "test": {}}
        # Test split to what was found on it, until the next test; on rank 0 alone.
        self.tested: dict[str, tuple[Evaluation, ExitRecord]] = {}
        self._recorders: dict[int, ExitRecorder] = {}
        self._clock = WallClock(wall_samples, wall_rounds, wall_budget)

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        module: Any = pl_module
        if stage == "fit" and self.fit_indicators:
            check_rows(getattr(trainer, "datamodule", None))
            module.fit_indicators()

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        check_monitors(trainer, pl_module)

    @override
    def on_split_batch(self, trainer: L.Trainer, module: Any, place: BatchPlace, outputs: Any, batch: Any) -> None:
        if place.stage == "train":
            return
        predictors = [] if trainer.state.fn == TrainerFn.FITTING else module.exit_predictors
        recorder = self._recorders.setdefault(place.loader, ExitRecorder())
        recorder.update(outputs, batch, module.score_policies(), predictors)
        if place.stage == "test" and trainer.is_global_zero:
            self._clock.offer(batch, place.batch_idx, trainer.num_test_batches[place.loader], place.loader)

    @override
    def on_split_end(self, trainer: L.Trainer, module: MultiExitModule, stage: str) -> None:
        if stage == "val":
            self._end_validation(trainer, module)
        elif stage == "test":
            self._end_test(trainer, module)

    def _records(self, trainer: L.Trainer, module: MultiExitModule, stage: str) -> dict[int, ExitRecord]:
        recorders, self._recorders = self._recorders, {}
        self.current[stage] = {}
        found = {loader: recorder.gather(module) for loader, recorder in sorted(recorders.items())}
        return {loader: record for loader, record in found.items() if record is not None}

    @override
    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._recorders = {}

    def _end_validation(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:
        records = self._records(trainer, pl_module, "val")
        alone = trainer.state.fn == TrainerFn.VALIDATING  # the command `validate`: what training chose stands
        metrics = main_metrics(trainer, pl_module.model.problem_type)
        found = []
        if 0 in records and not (alone and pl_module.operating_points):
            pl_module.choose_operating_points(records[0], self.points, metrics[0])
        for loader, record in records.items():
            prefix = stage_prefix(trainer, "val", loader)
            if loader > 0:
                pl_module.rescore(record)
            costs = PolicyCosts(pl_module.model, record, metrics[0])
            areas = {
                f"{prefix}/auc_{name}": costs.area(curve_of(costs, policy, num_points=40))
                for name, policy in pl_module.score_policies().items()
                if name in record.scores
            }
            own = f"{prefix}/auc_{pl_module.policy.name}"
            if own in areas:
                areas[f"{prefix}/auc"] = float(pl_module.score_of_curve(areas[own]))
            pl_module.log_dict(areas, sync_dist=True)
            self._set_current(pl_module, "val", prefix, costs)
            if alone:
                evaluation = self._evaluate(pl_module, record, prefix, metrics)
                add_reliability(evaluation, record)
                self._check_threshold(pl_module, record, f"the split {prefix}")
                found.append((evaluation, record))
        self._report(trainer, pl_module, found)

    def report_validation(self, trainer: L.Trainer, module: MultiExitModule) -> None:
        """Report the pass on which the checkpoint's points were chosen, where there is no test."""
        if (record := module.validation_record) is not None and trainer.is_global_zero:
            evaluation = self._evaluate(module, record, "val", main_metrics(trainer, module.model.problem_type))
            add_reliability(evaluation, record)
            self._report(trainer, module, [(evaluation, record)])

    def _report(
        self, trainer: L.Trainer, module: MultiExitModule, found: Sequence[tuple[Evaluation, ExitRecord]]
    ) -> None:
        """Print the summary, and write all tables into the run's folder; by process 0."""
        if not found or not trainer.is_global_zero:
            return
        point = module.operating_point
        parts = [parts_of_record(module, record, evaluation.split) for evaluation, record in found]
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = run_folder(trainer)
            for number, (evaluation, _) in enumerate(found):
                path = folder / f"report{f'_{evaluation.split}' if number else ''}.md"
                write_report(evaluation, point, parts[number], path, f"{folder.parent.name}/{folder.name}")
        print_report([evaluation for evaluation, _ in found], point, self.verbose, parts[0])

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        self._check_threshold(pl_module, pl_module.validation_record, "validation data")

    def _check_threshold(self, module: MultiExitModule, record: ExitRecord | None, where: str) -> None:
        if module.threshold is not None:  # one that was chosen is from such scores
            warn_if_useless(module.policy, record, where)

    def _set_current(self, module: MultiExitModule, stage: str, prefix: str, costs: PolicyCosts) -> None:
        if module.policy.name not in costs.record.scores:
            return
        point = costs.point(module.policy, module.policy.threshold)
        self.current[stage][prefix] = (point, float(costs.plain.mean()) / 1e9)
        module.log(f"{prefix}/operating_point/{costs.metric}", point.metric, sync_dist=True)

    @override
    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._recorders, self.tested, self._clock.batches = {}, {}, {}

    def _end_test(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:
        metrics = main_metrics(trainer, pl_module.model.problem_type)
        for loader, record in self._records(trainer, pl_module, "test").items():
            prefix = stage_prefix(trainer, "test", loader)
            self._set_current(pl_module, "test", prefix, PolicyCosts(pl_module.model, record, metrics[0]))
            evaluation = self._evaluate(pl_module, record, prefix, metrics)
            if self.policies is None or self.policies:
                targets, own, validation = sorted({1.0, *self.points}), pl_module.policy, pl_module.validation_record
                evaluation.policies = compare_policies(
                    pl_module.model, record, evaluation.metric, targets, own, validation, self.policies
                )
                evaluation.best_policy = best_policy(evaluation.policies)
            add_reliability(evaluation, record)
            self._check_threshold(pl_module, record, f"the split {prefix}")
            if trainer.is_global_zero:
                self._clock.measure(trainer, pl_module, evaluation, loader)
            log_scalars(trainer, pl_module, evaluation)
            if trainer.is_global_zero:
                write_files(trainer, pl_module, record, evaluation, "" if loader == 0 else f"_{prefix}")
                self.tested[prefix] = evaluation, record
        self._report(trainer, pl_module, list(self.tested.values()))
        self._clock.batches = {}

    def _evaluate(self, module: MultiExitModule, record: ExitRecord, split: str, metrics: Sequence[str]) -> Evaluation:
        """Exits, curves and operating points of a recorded split, for the module's policy and plain entropy."""
        policies = module.score_policies()
        names = [name for name in dict.fromkeys([module.policy.name, "entropy"]) if name in policies]
        warn_of_missing(module.operating_points, names, self.points)
        curves = {name: policies[name] for name in names}
        stored = module.operating_points
        evaluation = evaluate(module.model, record, split, metrics, module.policy, curves, stored, self.points)
        if record.predicted:
            layers = module.model.exit_layers
            evaluation.predictions = prediction_reports(record, module.exit_predictors, layers, metrics[0])
        return evaluation
