"""Writes what `predict` found as a table, or as GLUE's files, in the order of the input.

Each process puts its rows into shards as it goes; at the end the first process joins them. Shapes: E exits.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from typing_extensions import override

from mebert.callbacks.base import main_metrics
from mebert.callbacks.threshold_check import warn_if_useless
from mebert.errors import UserError, check_range
from mebert.inference import EngineName
from mebert.policies.stored_thresholds import checkpoint_threshold
from mebert.report.glue_files import glue_splits, missing_files, submission_size_notes, write_glue_files
from mebert.report.layout import print_pairs
from mebert.report.prediction_columns import counted, prediction_columns, with_input
from mebert.report.prediction_files import PredictionFormat, check_prediction_path, label_cells, write_table
from mebert.report.prediction_score import PredictionScore
from mebert.report.prediction_shards import PredictionShards, claim_shards, merged, release_shards, remove_shards
from mebert.runtime.distributed import gather_rows
from mebert.runtime.precision import inference_precision
from mebert.storage.operating_point import OperatingPoint, asked_by, check_max_drop
from mebert.storage.paths import check_output
from mebert.storage.run_folder import run_folder
from mebert.storage.thresholds import as_threshold, check_threshold

if TYPE_CHECKING:
    import pyarrow as pa
    from filelock import FileLock

    from mebert.modules import MultiExitModule
    from mebert.policies import ExitPolicy


class PredictionWriter(L.Callback):
    """Writes a table of predictions: index, `data.id_columns`, the texts, label, a probability a label, exit (from 1).

    For regression the table has `score` instead of a label and probabilities; where a row has several labels `labels`,
    those with a probability above 0.5 (a list in JSONL and Parquet, else parted as in the training file). A text column
    of one of these names gets `input_` before its name. Rows are in the order of the input, whatever the batches and
    processes were. Only `predict` writes. Where the file has labels, it prints the metrics, too.

    Until then the rows are in Parquet files in a folder beside the table, named like it and ending in `.shards`. A run
    that is killed leaves them there, each whole (pandas reads such a folder), and the table as it was.

    Args:
        path: The file, ending in .csv, .tsv, .jsonl or .parquet; null for `predictions.csv` (or as `format` is) in the
            run's folder. For `format: glue` a folder; null for `glue` in the run's folder.
        speedup: Leave at the threshold that was chosen on validation data for this speed-up by layers,
            instead of the checkpoint's own; 1 is the full depth. Else one of those stored in training
            (`curve.points`), or with the run's model by `python -m mebert calibrate`.
        threshold: Leave at this threshold, in [0, 1], instead; a list has one for each exit but the last.
        engine: `shrink` drops samples from the batch as they leave, `full` runs all layers first, `refill` lets those
            that stay wait for a full batch, `predicted` runs each straight to the exit that an exit predictor names;
            null for the module's own.
        max_drop: Leave at the threshold that `python -m mebert calibrate` stored with the run's model for this most
            allowed loss (`--max_drop`, or `--epsilon` for a guaranteed one). Needs the best checkpoint.
        format: `csv`, `tsv`, `jsonl`, `parquet`, or `glue`, the files that GLUE's server takes, for the test rows of
            one of its tasks (mnli: both splits; ax: the diagnostic set, by a model for mnli); null for what `path`
            ends in.
    """

    def __init__(
        self,
        path: str | None = None,
        speedup: float | None = None,
        threshold: float | list[float] | None = None,
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
        check_threshold("predictions.threshold", threshold)
        check_range("predictions.speedup", speedup, 1.0)
        check_max_drop("predictions.max_drop", max_drop)
        self.path = None if path is None else Path(path)
        self.format, self.engine = format, engine
        self.speedup, self.max_drop = speedup, max_drop
        self.threshold = None if threshold is None else as_threshold(threshold)
        self._shards: PredictionShards | None = None
        self._lock: FileLock | None = None
        self._scratch: TemporaryDirectory[str] | None = None
        self._own: tuple[ExitPolicy, EngineName] | None = None
        self.point: OperatingPoint | None = None  # of the last prediction

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "predict" and self.path is not None and self.format != "glue":
            check_output("predictions.path", self.path, inputs=_files_of(getattr(trainer, "datamodule", None)))

    @override
    def on_predict_start(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        if self.format == "glue":
            _glue_parts(trainer)  # raises before anything is computed
        self._shards = None
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._lock = claim_shards(self._shards_folder(trainer), self._place(trainer))
        self._own = pl_module.policy, pl_module.engine
        if self.engine is not None:
            pl_module.engine = self.engine
        path, state, points = getattr(trainer, "ckpt_path", None), pl_module.state_dict(), pl_module.operating_points
        threshold = checkpoint_threshold(path, state, pl_module.policy, points, self.speedup, self.max_drop)
        threshold = self.threshold if threshold is None else threshold
        if threshold is not None:
            pl_module.policy = pl_module.policy.with_threshold(threshold)
        asked = asked_by(self.threshold, self.speedup, self.max_drop)
        self.point = pl_module.point_of(pl_module.policy, asked or pl_module.chosen_by)
        if self.threshold is not None:
            warn_if_useless(pl_module.policy, pl_module.validation_record, "validation data")

    @override
    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        if isinstance(outputs, Mapping):  # an engine may hold rows back until the end
            module: Any = pl_module
            real = outputs["index"] >= 0
            rows = {name: outputs[name][real].cpu() for name in ("index", "label", "probabilities", "exit")}
            self._shards_of(trainer).add(prediction_columns(module.model, rows))

    def _shards_of(self, trainer: L.Trainer) -> PredictionShards:
        if self._shards is None:
            if trainer.fast_dev_run:  # type: ignore[attr-defined]
                self._scratch = TemporaryDirectory()
                folder = Path(self._scratch.name)
            else:
                folder = self._shards_folder(trainer)
            if trainer.world_size > 1:  # the run's folder is known to the first process alone
                folder = trainer.strategy.broadcast(folder)
            self._shards = PredictionShards(folder, trainer.global_rank, trainer.world_size)
        return self._shards

    def _shards_folder(self, trainer: L.Trainer) -> Path:
        place = self._place(trainer)
        return place.with_name(f"{place.name}.shards")

    def _place(self, trainer: L.Trainer) -> Path:
        """The table, or the folder of GLUE's files."""
        name = "glue" if self.format == "glue" else f"predictions.{self.format or 'csv'}"
        return self.path or run_folder(trainer) / name

    @override
    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        flush = getattr(pl_module, "flush_predictions", None)
        if flush is not None:
            self.on_predict_batch_end(trainer, pl_module, flush())
        shards = self._shards_of(trainer)
        shards.flush()
        self._shards = None
        # Waits for all processes, too.
        counts = gather_rows(torch.tensor([shards.count], device=pl_module.device)).tolist()
        if not trainer.is_global_zero or not any(counts):
            return
        depth = np.asarray(pl_module.model.exit_layers)
        at_exits = np.zeros(len(depth), dtype=np.int64)  # rows of each exit, (E,)
        written = self._write(trainer, pl_module, counted(merged(shards.folder, counts), at_exits), at_exits)
        remove_shards(shards.folder)
        rows = at_exits.sum()
        written |= {
            **({} if self.point is None else self.point.as_lines()),
            "engine": pl_module.engine,
            "precision": inference_precision(trainer.precision),
            "mean exit": f"{at_exits @ np.arange(1, len(depth) + 1) / rows:.2f} of {len(depth)}",
            "speed-up": f"{depth[-1] * rows / (at_exits @ depth):.2f}x by layers",
        }
        print_pairs("Predictions:", written)

    def _write(
        self, trainer: L.Trainer, module: MultiExitModule, tables: Iterator[pa.Table], at_exits: np.ndarray
    ) -> dict[str, str]:
        """Write all rows, which come in their order; returns lines for the summary."""
        pretending, place = bool(trainer.fast_dev_run), self._place(trainer)  # type: ignore[attr-defined]
        if self.format != "glue":
            data: Any = getattr(trainer, "datamodule", None)
            query = getattr(data, "query_column", None)
            model = module.model
            score = PredictionScore(
                main_metrics(trainer, model.problem_type), model.label_names, query, model.multi_label
            )
            separator = getattr(getattr(data, "label_form", None), "separator", None)
            chunks = label_cells(with_input(data, tables, score), separator, place.suffix)
            if pretending:
                deque(chunks, maxlen=0)
            else:
                write_table(place, chunks)
            measured = {"metric": score.line()} if score.rows else {}
            return {"table": f"{place} ({at_exits.sum():,} rows)", **measured}
        task, parts = _glue_parts(trainer)
        if pretending:
            deque(tables, maxlen=0)
            return {"files": f"in {place}, after a whole run"}
        is_number = module.model.num_labels == 1
        numbers = {name: number for number, name in enumerate(module.model.label_names)}
        labels = [
            value if is_number else numbers[value]
            for table in tables
            for value in table["score" if is_number else "label"].to_pylist()
        ]
        files = write_glue_files(place, task, parts, labels)
        missing = missing_files(place)
        written = ", ".join(f"{place / f.name} ({n:,} rows)" for f, n in zip(files, parts.values(), strict=True))
        notes = "; ".join(submission_size_notes(files, list(parts.values())))
        whole = f"still without {', '.join(missing)}" if missing else f"whole; next: zip -j glue.zip {place}/*.tsv"
        return {"files": written, **({"note": notes} if notes else {}), "submission": whole}

    @override
    def on_predict_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        if self._own is not None:
            pl_module.policy, pl_module.engine = self._own
            self._own = None
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
        self._release()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._release()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            release_shards(lock)


def _files_of(data: object) -> list[str]:
    """The files that a data module names in its settings, in whatever attribute."""
    found = vars(data).values() if data is not None else ()
    values = [one for value in found for one in (value.values() if isinstance(value, dict) else [value])]
    return [str(value) for value in values if isinstance(value, str | Path) and os.path.isfile(value)]


def _glue_parts(trainer: L.Trainer) -> tuple[str, dict[str, int]]:
    """The GLUE task of the data, and the number of rows of each test split that is predicted."""
    data: Any = getattr(trainer, "datamodule", None)
    task = getattr(getattr(data, "task", None), "name", None)
    if getattr(data, "predict_file", None) is not None:
        raise UserError("predictions.format glue writes the test rows of a task; leave out data.predict_file")
    # Alone, the first test split.
    given = getattr(data, "predict_split", None) or glue_splits(task).partition("+")[0]
    splits = glue_splits(task, given).split("+")
    return str(task), dict(zip(splits, data.predict_parts.values(), strict=True))
