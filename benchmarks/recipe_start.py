"""A start for shallow exits: every layer's mean over tokens learns the encoder's own final sentence vector, no labels.

    python benchmarks/recipe_start.py runs/studies/recipe_screen/start      # an encoder folder, for model.encoder

The texts are training rows of four tasks, pairs as they are read later; their labels are not used. Ours: the loss is
that of patient distillation (1 - cos), the teacher the encoder as it was. Shapes: E exits, B batch, H hidden.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader

from mebert.data import TextDataModule
from mebert.losses import feature_distances
from mebert.models import ExitOutputs, model_inputs
from mebert.modules import MultiExitModule

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
TASKS, ROWS = ("snli", "sst2", "qqp", "ag_news"), 4000  # of each


class SentenceVectorModule(MultiExitModule):
    """Every exit's feature learns the last one's of a frozen copy of the encoder: mean over exits of 1 - cos."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._frozen = [copy.deepcopy(self.model).eval().requires_grad_(False)]  # in a list: no part of what is trained

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`loss`; labels are not used."""
        with torch.no_grad():
            wanted = self._frozen[0](**model_inputs(batch)).features[-1:]
        return {"loss": feature_distances(outputs.features, wanted.expand_as(outputs.features), "cosine").mean()}


def batches(seed: int) -> DataLoader[Any]:
    """The tokenised rows of all tasks, shuffled."""
    splits = []
    for task in TASKS:
        data = TextDataModule(task=task, tokenizer=ENCODER, max_train_samples=ROWS, max_length=64)
        data.prepare_data()
        data.setup("fit")
        splits.append(data.split("train"))
    generator = torch.Generator().manual_seed(seed)
    rows: Any = ConcatDataset(splits)
    return DataLoader(rows, 32, shuffle=True, collate_fn=data.collate_for(), generator=generator)


def make(folder: Path, precision: str = "bf16-mixed") -> None:
    """Train for one pass and write the encoder with its tokenizer."""
    from transformers import AutoTokenizer

    L.seed_everything(1, verbose=False)
    module = SentenceVectorModule(encoder=ENCODER, pooling="mean", learning_rate=1e-4, warmup_ratio=0.06)
    settings: Any = {"accelerator": "cpu", "precision": precision, "logger": False, "enable_checkpointing": False}
    L.Trainer(max_epochs=1, enable_progress_bar=False, limit_val_batches=0, **settings).fit(module, batches(1))
    partial = folder.with_name(folder.name + ".partial")
    module.model.encoder.save_pretrained(partial)
    AutoTokenizer.from_pretrained(ENCODER, trust_remote_code=False).save_pretrained(partial)
    partial.replace(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
