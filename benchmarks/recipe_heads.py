"""What the heads alone still learn before the frozen encoder of a finished cell: some minutes for three arms.

    python benchmarks/recipe_heads.py --only recipe=joint,self task=snli

Reads the model of each cell that `recipe.py run` has finished on this machine. All rows go through the encoder once,
and the heads are then trained on the kept features. Shapes: E exits, N rows, F feature, C classes.
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recipe import SCREEN, cells, result_path, rules
from torch import Tensor, nn

from mebert.data import TextDataModule
from mebert.losses import logit_distances, per_exit_losses
from mebert.metrics.curve import ExitRecord
from mebert.models import MultiExitModel, model_inputs
from mebert.models.exit_scorer import fit_exit_scorer
from mebert.policies import (
    DistanceRatio,
    Entropy,
    ExitPolicy,
    HybridDistanceEntropy,
    LearnedToExit,
    Margin,
    MaxProbability,
)

KINDS = ("ce", "kd", "past")  # labels alone; labels and the last exit; the same, from the features of all exits so far
EPOCHS, BATCH, RATE = 5, 64, 1e-3


@dataclass
class Features:
    """A split after the encoder: features (E, N, F), labels, row numbers and lengths (N,)."""

    features: Tensor
    labels: Tensor
    index: Tensor
    lengths: Tensor


@torch.no_grad()
def encode(model: MultiExitModel, data: TextDataModule, name: str) -> Features:
    """A split through the encoder, once, in bfloat16 as it was trained; the longest texts first."""
    split, collate = data.split(name), data.collate_for()
    order = np.argsort(-split.lengths, kind="stable")
    parts: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(order), 128):
        batch = collate([split[int(row)] for row in order[start : start + 128]])
        with torch.autocast("cpu", torch.bfloat16):
            parts.append((model(**model_inputs(batch)).features.float(), batch["labels"]))
    back = torch.from_numpy(np.argsort(order))
    features, labels = torch.cat([f for f, _ in parts], 1)[:, back], torch.cat([y for _, y in parts])[back]
    return Features(features, labels, torch.from_numpy(split.index).long(), torch.from_numpy(split.lengths).long())


def make_heads(model: MultiExitModel, past: bool) -> nn.ModuleList:
    """Copies of the heads' classifiers; with `past` they read all features so far, new ones with weight 0."""
    heads = nn.ModuleList(copy.deepcopy(model.exit(index).classifier) for index in range(model.num_exits))
    for index, head in enumerate(heads[:-1] if past else []):
        own: Any = head
        wide = nn.Linear((index + 1) * model.feature_size, own[0].out_features)
        nn.init.zeros_(wide.weight)
        with torch.no_grad():
            wide.weight[:, -model.feature_size :] = own[0].weight
            wide.bias.copy_(own[0].bias)
        own[0] = wide
    return heads


def logits_of(heads: nn.ModuleList, features: Tensor, past: bool) -> Tensor:
    """Logits (E, N, C) of features (E, N, F)."""
    found = []
    for index, head in enumerate(heads):
        reads = features[: index + 1].transpose(0, 1).flatten(1) if past and index < len(heads) - 1 else features[index]
        found.append(head(reads))
    return torch.stack(found)


def train_heads(model: MultiExitModel, train: Features, kind: str) -> nn.ModuleList:
    """All heads but the last, trained on the kept features."""
    torch.manual_seed(1)
    heads = make_heads(model, kind == "past").train()
    heads[-1].eval()
    early = [parameter for head in heads[:-1] for parameter in head.parameters()]
    steps = EPOCHS * -(-len(train.labels) // BATCH)
    optimiser = torch.optim.AdamW(early, RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train.labels)).split(BATCH):
            logits = logits_of(heads, train.features[:, rows], kind == "past")
            loss = per_exit_losses(logits[:-1], train.labels[rows]).sum()
            if kind != "ce":
                kd = logit_distances(logits[:-1], logits[-1:].expand_as(logits[:-1]), 2.0).sum()
                loss = 0.5 * loss + 0.5 * kd
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return heads.eval()


@torch.no_grad()
def recorded(model: MultiExitModel, heads: nn.ModuleList, split: Features, past: bool) -> ExitRecord:
    """A pass over a split with other heads, as `fit` would have recorded it."""
    logits = logits_of(heads, split.features, past).float()
    kinds: list[ExitPolicy] = [
        Entropy(), MaxProbability(), Margin(), DistanceRatio(), HybridDistanceEntropy(), LearnedToExit()
    ]  # fmt: skip
    scores = {policy.name: policy.bind(model).score_exits(logits, split.features) for policy in kinds}
    return ExitRecord(logits, split.labels, split.index, split.lengths, scores)


def run(cell: Any) -> None:
    """The arms of a cell that have no result yet."""
    own = result_path(cell)
    paths = {kind: own.with_name(f"{cell.task}_{cell.recipe}_frozen_{kind}_{cell.seed}.json") for kind in KINDS}
    if all(path.exists() for path in paths.values()):
        return
    model = MultiExitModel.from_pretrained(str(cell.folder / "model")).eval()
    data = TextDataModule(tokenizer=str(cell.folder / "model"), **cell.config["data"]["init_args"])
    data.prepare_data()
    data.setup()
    train, validation, test = (encode(model, data, name) for name in ("train", "val", "test"))
    about = json.loads(own.read_text(encoding="utf-8"))
    for kind, path in paths.items():
        heads, past = train_heads(model, train, kind), kind == "past"
        with torch.no_grad():
            logits = logits_of(heads, train.features, past)[:, :2048].float()
        model.exit_scorer = fit_exit_scorer(train.features[:, :2048], logits, train.labels[:2048])
        on_test, on_validation = (recorded(model, heads, split, past) for split in (test, validation))
        result = {**about, "arm": f"{cell.recipe}_frozen_{kind}", **rules(model, on_test, on_validation)}
        path.write_text(json.dumps(result) + "\n", encoding="utf-8")
        print(path.stem, " ".join(f"{100 * value:.1f}" for value in result["exits"]), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=SCREEN)
    parser.add_argument("--only", nargs="+", default=["recipe=joint,self"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for each in cells(given.config, given.only):
        if (each.folder / "model").exists() and result_path(each).exists():
            run(each)
