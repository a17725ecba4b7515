"""A curriculum's difficulty, share of the data and easiest and hardest samples in every epoch."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
from typing_extensions import override

from mebert.curriculum.datamodule import CurriculumOrder
from mebert.curriculum.sampler import CurriculumSampler
from mebert.data.unlabelled import UnlabelledBeside
from mebert.errors import UserError, check_range
from mebert.report.prediction_files import write_table
from mebert.storage.run_folder import run_folder


class CurriculumMonitor(L.Callback):
    """Logs the curriculum of every epoch; without a curriculum it does nothing.

    `curriculum/share` is the share of the training rows that the epoch shows at least once,
    `curriculum/difficulty_shown` the mean difficulty of what it shows, and `curriculum/difficulty_p10`, `_p50` and
    `_p90` are quantiles over all training rows (of the scores by which the epoch is ordered).

    Args:
        samples: Write that many of the easiest and of the hardest training samples of every epoch, with their texts,
            to `curriculum.csv` in the run's folder (and as a table to Weights & Biases); 0 writes none.
    """

    def __init__(self, samples: int = 0) -> None:
        check_range("curriculum.samples", samples, 0)
        self.samples = samples
        self._table: dict[str, list[Any]] = {}

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._table = {}
        data = getattr(trainer, "datamodule", None)
        if stage == "fit" and self.samples and not isinstance(data, CurriculumOrder):
            raise UserError(
                f"curriculum.samples is {self.samples}, but {type(data).__name__} has no curriculum; "
                "use CurriculumDataModule"
            )

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data, sampler = getattr(trainer, "datamodule", None), getattr(trainer.train_dataloader, "sampler", None)
        sampler = sampler.inner if isinstance(sampler, UnlabelledBeside) else sampler
        if not isinstance(data, CurriculumOrder) or not isinstance(sampler, CurriculumSampler):
            return
        difficulty = data.current_difficulty(trainer.current_epoch)
        shown = sampler.global_order()
        values = {"share": len(np.unique(shown)) / len(sampler.lengths)}
        if difficulty is not None:
            known = difficulty[~np.isnan(difficulty)]
            values |= {f"difficulty_p{q}": float(np.percentile(known, q)) for q in (10, 50, 90)}
            values["difficulty_shown"] = float(np.nanmean(difficulty[shown]))
        pl_module.log_dict({f"curriculum/{name}": value for name, value in values.items()}, sync_dist=True)
        if self.samples and difficulty is not None and trainer.is_global_zero:
            self._write_samples(trainer, data, difficulty)

    def _write_samples(self, trainer: L.Trainer, data: CurriculumOrder, difficulty: np.ndarray) -> None:
        known = int((~np.isnan(difficulty)).sum())
        order = np.argsort(difficulty, kind="stable")[:known]  # NaN, not known yet, comes last
        easiest, hardest = order[: self.samples], order[::-1][: self.samples]
        places = np.concatenate([easiest, hardest])
        split = data.split("train")
        names: list[str] = getattr(data, "label_names", [])
        rows: dict[str, list[Any]] = {
            "epoch": [trainer.current_epoch] * len(places),
            "which": ["easiest"] * len(easiest) + ["hardest"] * len(hardest),
            "difficulty": difficulty[places].tolist(),
            "index": split.index[places].tolist(),
        }
        if split.labels is not None:
            classes = split.labels.dtype.kind in "iu" and len(names) > 1
            rows["label"] = [names[label] if classes else label for label in split.labels[places].tolist()]
        rows |= data.texts("train", places.tolist()) if hasattr(data, "texts") else {}
        for name, column in rows.items():
            self._table.setdefault(name, []).extend(column)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_table(run_folder(trainer) / "curriculum.csv", [self._table])
        for logger in trainer.loggers:
            if hasattr(logger, "log_table"):  # Weights & Biases
                data_rows = [list(row) for row in zip(*self._table.values(), strict=True)]
                logger.log_table("curriculum/samples", columns=list(self._table), data=data_rows)
