"""Cross-review: every sample is judged by teachers that have not seen it.

Source: Xu et al. 2020, "Curriculum Learning for Natural Language Understanding".
Shapes: N rows of the training split.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mebert.curriculum.measures import DataMeasure, Loss, Margin, ModelMeasure
from mebert.data.scoring import evaluation_mode, score_split
from mebert.errors import UserError
from mebert.runtime.distributed import no_collectives
from mebert.runtime.log_filters import quiet_trainer
from mebert.runtime.progress import Progress, shown_by

if TYPE_CHECKING:
    import lightning as L

    from mebert.data.loaders import SplitLoaders
    from mebert.data.tokenised import TokenisedSplit

__all__ = ["CrossReview"]


class CrossReview(DataMeasure):
    """How hard a row is for teachers trained on other rows: a part of the data each, the mean over all but its own.

    The teachers are modules of the same class and settings as the one to be trained (without an external teacher), so
    N teachers cost about as much as `epochs` epochs of training and N - 1 passes of inference. The scores are cached
    under a key that names data, module and settings.

    Args:
        teachers: Number of parts and teachers, at least 2.
        epochs: Epochs that each teacher is trained for.
        score: How a teacher's logits judge a row; null for the margin over all exits (the loss in a regression). The
            paper counts the teachers that are wrong, which leaves many ties.
        seed: Determines the parts and the teachers.
    """

    def __init__(self, teachers: int = 3, epochs: int = 1, score: ModelMeasure | None = None, seed: int = 42) -> None:
        if teachers < 2:
            raise UserError(f"CrossReview: teachers must be at least 2, got {teachers}")
        if epochs < 1:
            raise UserError(f"CrossReview: epochs must be at least 1, got {epochs}")
        if seed < 0:
            raise UserError(f"CrossReview: seed must be at least 0, got {seed}")
        self.teachers = teachers
        self.epochs = epochs
        self.score = score
        self.seed = seed
        self._scores: np.ndarray | None = None
        self._path: Path | None = None

    def of_split(self, split: TokenisedSplit) -> np.ndarray:
        """The scores that `prepare` found."""
        if self._scores is None:
            raise UserError("difficulty CrossReview trains teachers, so it needs a trainer: use it in fit")
        return self._scores

    def prepare(self, data: SplitLoaders) -> None:
        """Read the scores from the cache, or train the teachers and write them there.

        Args:
            data: Holds the training split and the trainer.
        """
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
            unfinished = path.with_name(f".{path.name}.{os.getpid()}")
            with unfinished.open("wb") as file:
                np.save(file, scores)
            os.replace(unfinished, path)
        self._scores, self._path = np.load(path, allow_pickle=False), path

    def cache_file(self, split: TokenisedSplit, module: L.LightningModule, data: SplitLoaders) -> Path:
        """Where the scores of this data, module and these settings are kept."""
        import datasets

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
        folder = Path(datasets.config.HF_DATASETS_CACHE) / "mebert"
        folder.mkdir(parents=True, exist_ok=True)
        task = getattr(data, "task_name", "own")
        return folder / f"cross_review-{task}-{type(module).__name__}-{digest.hexdigest()[:24]}.npy"

    def _scorer(self, split: TokenisedSplit) -> ModelMeasure:
        if self.score is not None:
            return self.score
        regression = split.labels is not None and split.labels.dtype.kind == "f"
        return Loss() if regression else Margin()

    def _train_and_score(self, split: TokenisedSplit, data: SplitLoaders, trainer: L.Trainer) -> np.ndarray:
        from lightning.pytorch.utilities.seed import isolate_rng

        parts = np.array_split(np.random.default_rng(self.seed).permutation(len(split)), self.teachers)
        sums = np.zeros(len(split))
        for number, part in enumerate(parts):
            begin = time.perf_counter()
            rest = np.sort(np.concatenate([other for other in parts if other is not part]))
            with isolate_rng(), quiet_trainer():
                torch.manual_seed(self.seed + number)
                text = f"teacher {number + 1} of {self.teachers}"
                sums[rest] += self._review(split, np.sort(part), rest, data, trainer, text)
            rank_zero_info(
                f"curriculum: teacher {number + 1} of {self.teachers} trained on {len(part):,} rows, {len(rest):,} "
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
        """Train one teacher on a part, and score the rest; `text` stands before the bar of either."""
        import lightning as L
        from lightning.pytorch.callbacks import LambdaCallback

        from mebert.data.loaders import SplitLoaders

        module = _same_module(trainer.lightning_module)
        own = SplitLoaders(
            data.batch_size, data.eval_batch_size, data.group_by_length, data.pad_to_multiple_of, 0, self.seed
        )
        own.splits = {"train": split.select(part)}
        own.tokenizer = data.tokenizer
        device = trainer.strategy.root_device
        alone_trainer = L.Trainer(
            accelerator="cpu" if device.type == "cpu" else "auto",
            devices=1 if device.index is None else [device.index],
            precision=trainer.precision,
            max_epochs=self.epochs,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches = -(-len(part) // data.batch_size) * self.epochs
        with Progress(f"{text}: training", batches, shown_by(trainer)) as bar:
            alone_trainer.callbacks.append(LambdaCallback(on_train_batch_end=lambda *args: bar.tick()))  # type: ignore[attr-defined]
            alone_trainer.fit(module, datamodule=own)
        module.to(device)
        scorer = self._scorer(split)

        def score(batch: Mapping[str, Tensor]) -> Tensor:
            return scorer.of_logits(module.exit_logits(batch).float(), batch["labels"])

        size = data.eval_batch_size
        with evaluation_mode(module), Progress(f"{text}: scoring", -(-len(rest) // size), shown_by(trainer)) as bar:
            scores = score_split(alone_trainer, split.select(rest), own.collate_for(), score, size, bar.tick)
        return scores.double().numpy()


def _same_module(module: L.LightningModule) -> Any:
    """A fresh module of the same class and settings, without an external teacher."""
    return type(module)(**_settings(module))


def _settings(module: L.LightningModule) -> dict[str, Any]:
    """The arguments of such a module."""
    # LightningCLI puts the class and its way to build it among the hyper-parameters: `_class_path`, `_instantiator`.
    settings = {name: value for name, value in module.hparams.items() if not name.startswith("_")}
    if settings.get("teacher") is not None:
        settings["teacher"] = None
    return settings
