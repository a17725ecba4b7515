"""Offline batch inference on a cluster: Ray Data reads, schedules and writes, an `EarlyExitPredictor` classifies.

Ray is optional (`pip install "mebert[ray]"`) and not imported here: the class is for its `map_batches`.
Shapes: B rows of a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mebert.data.columns import rename_taken
from mebert.errors import UserError


class EarlyExitPredictor:
    """Adds label, probabilities and exit to blocks of rows; the model is opened once an actor.

        ds = ray.data.read_json("texts.jsonl", lines=True)
        ds.map_batches(
            EarlyExitPredictor,
            fn_constructor_kwargs={"model": "runs/quickstart/version_0/model", "call": {"speedup": 2.0}},
            concurrency=4,
            batch_size=4096,
        ).write_parquet("predictions")

    New columns: `label` (of several a row the list `labels`) and `prob_<label>` of each label (`score` in a
    regression), and `exit`, from 1. A column of the rows that has one of these names gets `input_` before it.

    Args:
        model: A model folder or Hub id, which every machine of the cluster can read.
        text_column: Column of the (first) text.
        text_pair_column: Column of the second text of a pair; None for none.
        call: How `EarlyExitClassifier` is called: `speedup`, `threshold`, `max_drop`, `policy`, `engine`, `batch_size`,
            `tokens_per_batch`, `max_length`.
        device: `cpu`, `cuda`, ...; None: an accelerator where Ray gives the actor one (`num_gpus=1`).
        precision: As in `EarlyExitClassifier`.
        threads: Of PyTorch on a CPU; None: as many as Ray says (it sets OMP_NUM_THREADS to the actor's CPUs).

    Raises:
        UserError: The model cannot be opened, or the call's settings do not fit it.
    """

    def __init__(
        self,
        model: str,
        text_column: str = "text",
        text_pair_column: str | None = None,
        call: Mapping[str, Any] | None = None,
        device: str | None = None,
        precision: Any = None,
        threads: int | None = None,
    ) -> None:
        import torch

        from mebert.inference.classifier import EarlyExitClassifier

        if threads is not None:
            torch.set_num_threads(threads)
        self.classify = EarlyExitClassifier.from_pretrained(model, device, precision)
        self.columns = [name for name in (text_column, text_pair_column) if name is not None]
        self.call = {"progress": False} | dict(call or {})

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """The block with the new columns, from column name to values (B,)."""
        for name in self.columns:
            if name not in batch:
                raise UserError(f"the rows have no column {name!r}; theirs are: {', '.join(batch)}")
        # A missing text is treated as empty, as in `predict`.
        texts = [["" if text is None else str(text) for text in batch[name]] for name in self.columns]
        rows: list[Any] = list(zip(*texts, strict=True)) if len(texts) == 2 else texts[0]
        predictions = self.classify(rows, **self.call)
        found: dict[str, Any] = {}
        if len(self.classify.label_names) == 1:
            found["score"] = np.asarray([one.score for one in predictions], dtype=np.float32)
        else:
            if self.classify.model.multi_label:
                found["labels"] = [list(one.labels or ()) for one in predictions]
            else:
                found["label"] = np.asarray([one.label for one in predictions], dtype=object)
            for name in self.classify.label_names:
                values = [one.probabilities[name] for one in predictions]
                found[f"prob_{name}"] = np.asarray(values, dtype=np.float32)
        found["exit"] = np.asarray([one.exit for one in predictions], dtype=np.int64)
        return {name: batch[column] for column, name in rename_taken(batch, found).items()} | found
