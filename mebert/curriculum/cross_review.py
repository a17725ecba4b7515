"""Cross-review: every sample is scored by teachers that were not trained on it.

Source: Xu et al. 2020, "Curriculum Learning for Natural Language Understanding".
Shapes: N rows of the training split.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from mebert.curriculum.measures import DataMeasure, Loss, Margin, ModelMeasure
from mebert.data.datamodule import SplitDataModule
from mebert.data.files import cache_folder
from mebert.data.loaders import SplitLoaders
from mebert.data.scoring import evaluation_mode, score_split
from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError, check_range
from mebert.runtime.distributed import no_collectives
from mebert.runtime.log_filters import quiet_trainer
from mebert.runtime.messages import rank_zero_info
from mebert.runtime.progress import Progress, shown_by
from mebert.storage.atomic import atomic_path


class CrossReview(DataMeasure):
    """How hard a row is for teachers trained on other rows.

    The rows are split into as many parts as there are teachers. Each teacher is trained on one part and scores all
    others; the difficulty of a row is the mean of its scores. Teachers are modules of the same class and settings as
    the one to be trained (without an external teacher), so n teachers cost about as much as `epochs` epochs of training
    and n - 1 passes of inference. The scores are cached by data, module and settings.

    Args:
        teachers: Number of parts and teachers, at least 2.
        epochs: Epochs that each teacher is trained for.
        score: How a teacher's logits judge a row; null for the margin over all exits (the loss in a regression, and
            where rows have several labels). The paper counts the teachers that are wrong, which leaves many ties.
        seed: Determines the parts and the teachers.
    """

    def __init__(self, teachers: int = 3, epochs: int = 1, score: ModelMeasure | None = None, seed: int = 42) -> None:
        check_range("CrossReview: teachers", teachers, 2)
        check_range("CrossReview: epochs", epochs, 1)
        check_range("CrossReview: seed", seed, 0)
        self.teachers = teachers
        self.epochs = epochs
        self.score = score
        self.seed = seed
        self._scores: np.ndarray | None = None
        self._path: Path | None = None

    def of_split(self, split: TokenisedSplit) -> np.ndarray:
        if self._scores is None:
            raise UserError("difficulty CrossReview trains teachers, which needs a trainer: use it in fit")
        return self._scores

    def prepare(self, data: SplitLoaders) -> None:
        """Read the scores from the cache, or train the teachers and write them there."""
        split, trainer = data.split("train"), data.trainer
        assert trainer is not None
        if len(split) < self.teachers:
            raise UserError(f"CrossReview: {len(split)} training rows cannot be shared by {self.teachers} teachers")
        path = self.cache_file(split, trainer.lightning_module, data)
        if path == self._path:
            return
        if path.exists():
            rank_zero_info(f"curriculum: cross-review's scores of {len(split):,} rows read from {path}")
        else:
            with no_collectives():
                scores = self._train_and_score(split, data, trainer)
            with atomic_path(path) as unfinished, unfinished.open("wb") as file:
                np.save(file, scores)
        self._scores, self._path = np.load(path, allow_pickle=False), path

    def cache_file(self, split: TokenisedSplit, module: L.LightningModule, data: SplitLoaders) -> Path:
        """Return the file of the scores of this data, module and these settings."""
        digest = hashlib.sha256()
        for array in (split.tokens, split.offsets, split.labels, split.index):
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        scorer = self._scorer(split)
        settings = {
            "module": f"{type(module).__module__}.{type(module).__qualname__}",
            "hparams": _settings(module),
            "teachers": [self.teachers, self.epochs, self.seed, type(scorer).__name__, vars(scorer)],
            "batches": [data.batch_size, data.group_by_length],
        }
        digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        task = getattr(data, "task_name", "own")
        return cache_folder() / f"cross_review-{task}-{type(module).__name__}-{digest.hexdigest()[:24]}.npy"

    def _scorer(self, split: TokenisedSplit) -> ModelMeasure:
        if self.score is not None:
            return self.score
        return Loss() if split.is_regression or split.is_multi_label else Margin()

    def _train_and_score(self, split: TokenisedSplit, data: SplitLoaders, trainer: L.Trainer) -> np.ndarray:
        parts = np.array_split(np.random.default_rng(self.seed).permutation(len(split)), self.teachers)
        sums = np.zeros(len(split))
        for number, part in enumerate(parts):
            begin = time.perf_counter()
            rest = np.sort(np.concatenate([other for other in parts if other is not part]))
            teacher = f"teacher {number + 1} of {self.teachers}"
            with isolate_rng(), quiet_trainer():
                torch.manual_seed(self.seed + number)
                sums[rest] += self._review(split, np.sort(part), rest, data, trainer, teacher)
            rank_zero_info(
                f"curriculum: {teacher} trained on {len(part):,} rows, {len(rest):,} "
                f"others scored, {time.perf_counter() - begin:.1f} s"
            )
        return sums / (self.teachers - 1)

    def _review(
        self,
        split: TokenisedSplit,
        part: np.ndarray,
        rest: np.ndarray,
        data: SplitLoaders,
        trainer: L.Trainer,
        text: str,
    ) -> np.ndarray:
        """Train one teacher on a part, and score the rest; `text` stands before the progress bar of either."""
        module: Any = type(trainer.lightning_module)(**_settings(trainer.lightning_module))
        own = SplitDataModule(
            data.batch_size, data.eval_batch_size, data.group_by_length, data.pad_to_multiple_of, 0, self.seed
        )
        own.splits = {"train": split.select(part)}
        own.tokenizer = data.tokenizer
        device = trainer.strategy.root_device
        batches = -(-len(part) // data.batch_size) * self.epochs
        with Progress(f"{text}: training", batches, shown_by(trainer)) as steps:
            own_trainer = L.Trainer(
                accelerator="cpu" if device.type == "cpu" else "auto",
                devices=1 if device.index is None else [device.index],
                precision=trainer.precision,
                max_epochs=self.epochs,
                limit_val_batches=0,
                callbacks=LambdaCallback(on_train_batch_end=lambda *args: steps.tick()),
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            own_trainer.fit(module, datamodule=own)
        module.to(device)
        bar = Progress(f"{text}: scoring", -(-len(rest) // data.eval_batch_size), shown_by(trainer))
        return measure_split(self._scorer(split), module, split.select(rest), own, own_trainer, bar).double().numpy()


def measure_split(
    measure: ModelMeasure, module: Any, rows: TokenisedSplit, data: SplitLoaders, trainer: L.Trainer, bar: Progress
) -> Tensor:
    """Return the difficulty of rows (n,) by one pass of a module, which the trainer's processes share."""

    def score(batch: Mapping[str, Tensor]) -> Tensor:
        return measure.of_logits(module.exit_logits(batch).float(), batch["labels"])

    with evaluation_mode(module), bar:
        return score_split(trainer, rows, data.collate_for(), score, data.eval_batch_size, bar.tick)


def _settings(module: L.LightningModule) -> dict[str, Any]:
    """Return the arguments of a module of the same class and settings, without an external teacher."""
    # LightningCLI puts the class and its way to build it among the hyper-parameters: `_class_path`, `_instantiator`.
    return {n: None if n == "teacher" else value for n, value in module.hparams.items() if not n.startswith("_")}
