"""Writes what `predict` found as a table, or as GLUE's files, in the order of the input.

Shapes: B batch, C classes, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from mebert.calibration.stored import max_drops_beside, points_beside, threshold_for_max_drop
from mebert.callbacks.recorder import gather_rows
from mebert.callbacks.threshold_check import warn_if_useless
from mebert.errors import UserError
from mebert.inference import EngineName
from mebert.operating_points import stored_threshold
from mebert.report.glue_files import glue_splits, missing_files, submission_size_notes, write_glue_files
from mebert.report.prediction_files import PredictionFormat, check_prediction_path, write_table
from mebert.report.run_folder import run_folder
from mebert.report.tables import print_pairs

if TYPE_CHECKING:
    from mebert.modules import MultiExitModule
    from mebert.policies import ExitPolicy

__all__ = ["PredictionWriter"]

CHUNK = 10_000  # rows whose texts are in memory at a time


class PredictionWriter(L.Callback):
    """Writes a table of predictions: index, the texts, label, one probability a label, exit (from 1).

    For regression the table has `score` instead of a label and probabilities. Rows are in the order of the
    input, whatever the batches and processes were. Only `predict` writes.

    Args:
        path: The file, ending in .csv, .jsonl or .parquet; null for `predictions.csv` (or as `format` is) in the run's
            folder. For `format: glue` a folder; null for `glue` in the run's folder.
        speedup: Leave at the threshold that was chosen on validation data for this speed-up by layers,
            instead of the checkpoint's own. One of those stored in training (`curve.points`), or with the run's model
            by `python -m mebert calibrate`.
        threshold: Leave at this threshold, in [0, 1], instead.
        engine: `shrink` drops samples from the batch as they leave, `full` runs all layers first, `refill` lets those
            that stay wait for a full batch, `predicted` runs each straight to the exit that an exit predictor names;
            null for the module's own.
        max_drop: Leave at the threshold that `python -m mebert calibrate` stored with the run's model for this most
            allowed loss (`--max_drop`, or `--epsilon` for a promised one). Needs the best checkpoint.
        format: `csv`, `jsonl`, `parquet`, or `glue`, the files that GLUE's server takes, for the test rows of one of
            its tasks (mnli: both splits; ax: the diagnostic set, by a model for mnli); null for what `path` ends in.
    """

    def __init__(
        self,
        path: str | None = None,
        speedup: float | None = None,
        threshold: float | None = None,
        engine: EngineName | None = None,
        max_drop: float | None = None,
        format: PredictionFormat | None = None,
    ) -> None:
        if path is not None:
            check_prediction_path(Path(path), format)
        numbers = {"speedup": speedup, "threshold": threshold, "max_drop": max_drop}
        given = [f"predictions.{name}" for name, value in numbers.items() if value is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} were both given; give one of them")
        if threshold is not None and not 0.0 <= threshold <= 1.0:
            raise UserError(f"predictions.threshold must be in [0, 1], got {threshold}")
        self.path = None if path is None else Path(path)
        self.format = format
        self.speedup = speedup
        self.threshold = threshold
        self.max_drop = max_drop
        self._parts: list[dict[str, Tensor]] = []
        self.engine = engine
        self._own: tuple[ExitPolicy, EngineName] | None = None

    @override
    def on_predict_start(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        if self.format == "glue":
            _glue_parts(trainer)  # says what is wrong before anything is computed
        self._parts = []
        self._own = pl_module.policy, pl_module.engine
        if self.engine is not None:
            pl_module.engine = self.engine
        threshold = self.threshold
        if self.speedup is not None:
            path, policy = getattr(trainer, "ckpt_path", None), pl_module.policy
            points = points_beside(path, pl_module.state_dict(), policy, pl_module.operating_points)
            threshold = stored_threshold(policy.name, points, self.speedup)
        if self.max_drop is not None:
            drops = max_drops_beside(str(trainer.ckpt_path), pl_module.state_dict(), pl_module.policy)
            threshold = threshold_for_max_drop(pl_module.policy.name, drops, self.max_drop)
        if threshold is not None:
            pl_module.policy = pl_module.policy.with_threshold(threshold)
        if self.threshold is not None:
            warn_if_useless(pl_module.policy, pl_module.validation_record, "validation data")

    @override
    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._add(outputs)

    def _add(self, outputs: Any) -> None:
        """Keep the rows of a step, if any: an engine may hold some back until the end."""
        if isinstance(outputs, Mapping):
            self._parts.append({name: outputs[name].cpu() for name in ("index", "label", "probabilities", "exit")})

    @override
    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        flush = getattr(pl_module, "flush_predictions", None)
        if flush is not None:
            self._add(flush())
        if not self._parts:
            return
        parts, self._parts = self._parts, []
        rows = {n: gather_rows(pl_module, torch.cat([p[n] for p in parts])).cpu() for n in parts[0]}
        if not trainer.is_global_zero:
            return
        order = rows["index"].argsort(stable=True)
        order = order[rows["index"][order] >= 0]
        rows = {name: values[order] for name, values in rows.items()}
        written = self._write(trainer, pl_module, rows)
        layers = torch.tensor(pl_module.model.exit_layers, dtype=torch.float64)
        taken = layers[rows["exit"] - 1].mean()
        policy = pl_module.policy
        print_pairs(
            "Predictions:",
            {
                **written,
                "policy": f"{policy.name}, threshold {policy.threshold:.4g}, engine {pl_module.engine}",
                "mean exit": f"{rows['exit'].double().mean():.2f} of {pl_module.model.num_exits}",
                "speed-up": f"{float(layers[-1] / taken):.2f}x by layers",
            },
        )

    def _write(self, trainer: L.Trainer, module: MultiExitModule, rows: dict[str, Tensor]) -> dict[str, str]:
        """Write all rows, sorted by their index; returns what is to be said of it."""
        count = len(rows["index"])
        pretending = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        if self.format != "glue":
            path = self.path or run_folder(trainer) / f"predictions.{self.format or 'csv'}"
            if not pretending:
                write_table(path, _chunks(trainer, module, rows))
            return {"table": f"{path} ({count:,} rows)"}
        folder = self.path or run_folder(trainer) / "glue"
        task, parts = _glue_parts(trainer)
        if pretending:
            return {"files": f"in {folder}, after a whole run"}
        files = write_glue_files(folder, task, parts, rows["label"].tolist())
        missing = missing_files(folder)
        written = ", ".join(f"{folder / f.name} ({n:,} rows)" for f, n in zip(files, parts.values(), strict=True))
        notes = "; ".join(submission_size_notes(files, list(parts.values())))
        whole = f"still without {', '.join(missing)}" if missing else f"whole; next: zip -j glue.zip {folder}/*.tsv"
        return {"files": written, **({"note": notes} if notes else {}), "submission": whole}

    @override
    def on_predict_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        if self._own is not None:
            pl_module.policy, pl_module.engine = self._own
            self._own = None


def _glue_parts(trainer: L.Trainer) -> tuple[str, dict[str, int]]:
    """The task of the data, and the rows of each test split that is predicted.

    Raises:
        UserError: The data is not a task of GLUE's, or other rows of it are predicted.
    """
    data: Any = getattr(trainer, "datamodule", None)
    task = getattr(getattr(data, "task", None), "name", None)
    if getattr(data, "predict_file", None) is not None:
        raise UserError("predictions.format glue writes the test rows of a task; leave out data.predict_file")
    # Alone, the first test split.
    given = getattr(data, "predict_split", None) or glue_splits(task).partition("+")[0]
    splits = glue_splits(task, given).split("+")
    return str(task), dict(zip(splits, data.predict_parts.values(), strict=True))


def _chunks(trainer: L.Trainer, module: MultiExitModule, rows: dict[str, Tensor]) -> Iterator[dict[str, list[Any]]]:
    read_texts = getattr(getattr(trainer, "datamodule", None), "predict_rows", None)
    names = module.model.label_names
    for start in range(0, len(rows["index"]), CHUNK):
        part = {name: values[start : start + CHUNK] for name, values in rows.items()}
        index = part["index"].tolist()
        table: dict[str, list[Any]] = {"index": index}
        if read_texts is not None:
            table |= {name: list(values) for name, values in read_texts(index).items()}
        if module.model.num_labels == 1:
            table["score"] = part["label"].tolist()
        else:
            table["label"] = [names[label] for label in part["label"].tolist()]
            for c, name in enumerate(names):
                table[f"prob_{name}"] = part["probabilities"][:, c].float().tolist()
        table["exit"] = part["exit"].tolist()
        yield table
