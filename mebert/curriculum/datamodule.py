"""Data modules with a curriculum: difficulty scores kept during training, and an order made from them every epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from mebert.curriculum.cross_review import CrossReview, measure_split
from mebert.curriculum.measures import DataMeasure, DifficultyMeasure, Length, ModelMeasure
from mebert.curriculum.ordering import Direction
from mebert.curriculum.pacing import Pacing
from mebert.curriculum.sampler import CurriculumSampler, planned_batches
from mebert.curriculum.table import DifficultyTable
from mebert.data.datamodule import TextDataModule
from mebert.data.loaders import SplitLoaders
from mebert.data.samplers import OrderedSampler
from mebert.data.synthetic import SyntheticEntailmentDataModule
from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError, check_range
from mebert.runtime.distributed import gather_rows
from mebert.runtime.messages import rank_zero_info
from mebert.runtime.progress import rows_pass


class CurriculumOrder(SplitLoaders):
    """Adds a curriculum to a data module; put it before the data module in the list of base classes.

    Args:
        difficulty: The measure of difficulty; null for the length in tokens.
        pacing: Which part of the ranked rows is in use when; null shows all rows in every epoch, sorted.
        direction: `easy_first`, `hard_first`, or `random`: a control that shows what the pacing alone does.
        within_class: Rank rows within their class, so that easy and hard parts hold the classes in the same shares.
            Scores of a model are lower for the class that it prefers: ranked together, training would start on that
            class alone. No effect in a regression, nor where rows have several labels.
        scores_from: Source of the scores of a measure of the model: the steps of the `training` itself, at no cost, or
            one pass of `inference` over the training rows at the start of every epoch but the first.
        initial: Measure of the first epoch, before the model has scores; null shuffles that epoch.
        smoothing: Weight of a row's older score against the newest, in [0, 1).
        kwargs: The settings of the data module.
    """

    def __init__(
        self,
        difficulty: DifficultyMeasure | None = None,
        pacing: Pacing | None = None,
        direction: Direction = "easy_first",
        within_class: bool = True,
        scores_from: Literal["training", "inference"] = "training",
        initial: DataMeasure | None = None,
        smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_range("smoothing", smoothing, 0, 1, high_open=True)
        super().__init__(**kwargs)
        self.difficulty: DifficultyMeasure = Length() if difficulty is None else difficulty
        self.pacing = pacing
        self.direction: Direction = direction
        self.within_class = within_class
        self.scores_from = scores_from
        self.initial = initial
        self.smoothing = smoothing
        self.table: DifficultyTable | None = None
        self._fixed: np.ndarray | None = None
        self._collected: list[tuple[Tensor, Tensor]] = []
        self._state: dict[str, Any] | None = None

    def prepare_data(self) -> None:
        """Train the teachers of a cross-review in one process; the others find the scores on disk."""
        super().prepare_data()
        self._prepare_measure()

    def setup(self, stage: str | None = None) -> None:
        """Compute a measure of the data, and add the callback that collects a measure of the model."""
        super().setup(stage)
        if stage not in ("fit", None) or "train" not in self.splits:
            return
        self._prepare_measure()
        split, measure = self.split("train"), self.difficulty
        self.table = DifficultyTable(split.index, self.smoothing)
        self._collected = []
        first = measure if isinstance(measure, DataMeasure) else self.initial
        self._fixed = None if first is None else _checked(first, split)
        if isinstance(measure, ModelMeasure):
            if split.is_regression and not measure.fits_regression:
                name = type(measure).__name__
                raise UserError(f"difficulty {name} needs classes, but this task is a regression; use Loss")
            if split.is_multi_label and not measure.fits_multi_label:
                name = type(measure).__name__
                raise UserError(f"difficulty {name} needs one class a row, and these have several labels; use Loss")
            callbacks = [] if self.trainer is None else self.trainer.callbacks
            if self.scores_from == "training" and not any(isinstance(c, _Collector) for c in callbacks):
                callbacks.insert(0, _Collector())  # before checkpoints, which then hold the newest step's scores
        if self._state is not None:
            self.table.load_state_dict(self._state)
            self._state = None

    def _prepare_measure(self) -> None:
        fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        for measure in (self.difficulty, self.initial) if fitting else ():
            if isinstance(measure, CrossReview):
                measure.prepare(self)

    @override
    def train_sampler(self) -> OrderedSampler:
        split, world = self.split("train"), self._world()
        rows = max(len(split) // world[0], 1)
        return CurriculumSampler(
            split.lengths,
            self.batch_size,
            self.current_difficulty,
            self.direction,
            self.pacing,
            *planned_batches(self.trainer, -(-rows // self.batch_size)),
            *world,
            self.seed,
            self.group_by_length,
            classes=split.labels if self.within_class and not (split.is_regression or split.is_multi_label) else None,
        )

    def current_difficulty(self, epoch: int) -> np.ndarray | None:
        """Return the difficulty (N,) by which an epoch is ordered, the same on every process; None without scores.

        The first call of an epoch uses the collected scores, or runs the model over the training rows; later calls, and
        those of a resumed run, return the same scores.
        """
        if not isinstance(self.difficulty, ModelMeasure):
            return self._fixed
        assert self.table is not None
        if self.table.epoch != epoch:
            if self.scores_from == "inference" and epoch > 0:
                self._rescore(self.difficulty)
            self._merge_collected()
            self.table.freeze(epoch)
        return self._fixed if self.table.in_use is None else self.table.in_use

    def _rescore(self, measure: ModelMeasure) -> None:
        assert self.trainer is not None
        assert self.table is not None
        module, begin = self.trainer.lightning_module, time.perf_counter()
        if not hasattr(module, "exit_logits"):
            raise UserError(f"scores_from 'inference' needs a module with `exit_logits`, got {type(module).__name__}")
        split = self.split("train")
        bar = rows_pass("scoring the training rows", self.trainer, len(split), self.eval_batch_size)
        scores = measure_split(measure, module, split, self, self.trainer, bar)
        self.table.update(split.index, scores.numpy())
        seconds = time.perf_counter() - begin
        rank_zero_info(f"curriculum: {len(split):,} training rows scored again in {seconds:.1f} s")

    def collect(self, logits: Tensor, labels: Tensor, index: Tensor) -> None:
        """Score the rows (B,), as numbered in the raw split, of a training step by its logits (E, B, C)."""
        assert isinstance(self.difficulty, ModelMeasure)
        with torch.no_grad():  # stays on the device: reading it would wait for the step
            self._collected.append((index, self.difficulty.of_logits(logits.float(), labels)))

    def _merge_collected(self) -> None:
        """Put the scores that all processes have collected into the table of each."""
        collected, self._collected = self._collected, []
        if not collected or self.table is None:
            return
        index = gather_rows(torch.cat([rows for rows, _ in collected])).cpu().numpy()
        scores = gather_rows(torch.cat([values for _, values in collected])).cpu().numpy()
        # Step by step, as they came (all processes have equally many steps and rows): a row may come twice in an epoch.
        ends = np.cumsum([len(rows) for rows, _ in collected])
        steps = [np.split(values.reshape(-1, ends[-1]), ends[:-1], axis=1) for values in (index, scores)]
        for rows, values in zip(*steps, strict=True):
            self.table.update(rows.ravel(), values.ravel())

    def state_dict(self) -> dict[str, Any]:
        """Return the difficulty table, complete on every process."""
        self._merge_collected()
        return {} if self.table is None else self.table.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.table is None:
            self._state = state_dict or None
        elif state_dict:
            self.table.load_state_dict(state_dict)


class CurriculumDataModule(CurriculumOrder, TextDataModule):
    """`TextDataModule` with a curriculum: its training rows are ordered by difficulty, anew every epoch."""


class SyntheticCurriculumDataModule(CurriculumOrder, SyntheticEntailmentDataModule):
    """The built-in task with a curriculum; its true difficulty is known (`KnownDifficulty`)."""


class _Collector(L.Callback):
    """Passes every training step's logits to the data module."""

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, CurriculumOrder) and isinstance(outputs, Mapping) and "logits" in outputs:
            data.collect(outputs["logits"], outputs["labels"], outputs["index"])


def _checked(measure: DataMeasure, split: TokenisedSplit) -> np.ndarray:
    """Return the scores of a measure as float64 (N,), if they can be ranked."""
    scores = np.asarray(measure.of_split(split), dtype=np.float64)
    if scores.shape != split.index.shape or not np.isfinite(scores).all():
        raise UserError(
            f"difficulty {type(measure).__name__} must give a finite number for each of {len(split)} training rows; "
            f"it gave {scores.shape} numbers, {int((~np.isfinite(scores)).sum())} of them not finite"
        )
    return scores
