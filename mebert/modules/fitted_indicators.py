"""Prototypes and learning-to-exit heads for recipes that do not train them: fitted before each validation.

The policies `dr` and `edr` read prototypes, `learned` reads the head. Shapes: E exits, N rows, C classes, F feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from mebert.data.scoring import evaluation_mode
from mebert.errors import UserError
from mebert.models.exit_scorer import fit_exit_scorer
from mebert.models.fitted_prototypes import PrototypeSums
from mebert.models.multi_exit import model_inputs
from mebert.models.prototypes import PrototypeBank
from mebert.modules.checks import refuse_several_labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mebert.models.multi_exit import MultiExitModel

MAX_ROWS = 2048  # training rows that are read, at most: class means of a few hundred features need no more


def add_missing_parts(model: MultiExitModel, prototypes: bool = True, exit_scorer: bool = True) -> None:
    """Give a model the parts that it lacks, for `refit` to fill; no gradient trains them."""
    device, size = next(model.parameters()).device, model.feature_size
    if prototypes and model.prototypes is None:
        refuse_several_labels("a policy of prototypes (dr, edr)", model.problem_type, "another, for example 'entropy'")
        if model.num_exits < 2:
            raise UserError("prototypes need at least 2 exits: every exit but the last has a prototypical network")
        bank = PrototypeBank(model.num_exits - 1, size, model.num_labels, dim=size).requires_grad_(False)
        model.prototypes = bank.to(device)
    if exit_scorer and model.exit_scorer is None:
        model.exit_scorer = nn.Linear(size, 1).requires_grad_(False).to(device)


def make_room_for_state(model: MultiExitModel, names: Iterable[str]) -> None:
    """Give a model the parts that a checkpoint (names of its tensors, of a module) has and it lacks."""
    found = {name.split(".")[1] for name in names if name.startswith("model.")}
    add_missing_parts(model, "prototypes" in found, "exit_scorer" in found)


def _is_fitted(part: PrototypeBank | nn.Linear | None) -> TypeGuard[PrototypeBank | nn.Linear]:
    return part is not None and not part.weight.requires_grad


def has_fitted_parts(model: MultiExitModel) -> bool:
    """Whether the model has a part that is fitted and not trained."""
    return _is_fitted(model.prototypes) or _is_fitted(model.exit_scorer)


def check_rows(datamodule: Any) -> None:
    """Raise a UserError where there are no tokenised training rows to fit to."""
    if not hasattr(datamodule, "collate_for"):
        given = "plain loaders" if datamodule is None else type(datamodule).__name__
        raise UserError(
            f"prototypes and learning-to-exit heads are fitted to training rows, and {given} has none that are "
            "tokenised; train with TextDataModule (or a subclass) as datamodule, or choose a policy that reads neither"
        )


def refit(trainer: L.Trainer, model: MultiExitModel) -> None:
    """Fit these parts to (at most 2,048 of) the training rows, as the model is now.

    Every process does the same on the same rows, so that nothing has to be sent; nothing is drawn from the global
    random state.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    check_rows(data)
    rows = data.split("train")
    if len(rows) > MAX_ROWS:
        rows = rows.select(np.sort(np.random.default_rng(0).permutation(len(rows))[:MAX_ROWS]))
    with evaluation_mode(model), trainer.precision_plugin.forward_context():
        features, logits, labels = _run(model, rows, data.collate_for(), data.eval_batch_size)
    if _is_fitted(model.prototypes):
        sums = PrototypeSums(model)
        sums.add(features, labels)
        model.prototypes.load_state_dict(sums.bank().state_dict())
    if _is_fitted(model.exit_scorer):
        model.exit_scorer.load_state_dict(fit_exit_scorer(features, logits, labels).state_dict())


@torch.no_grad()
def _run(model: MultiExitModel, rows: Any, collate_batch: Any, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features (E, N, F), logits (E, N, C) and labels (N,) of the rows (of several a row (N, C)), the longest first."""
    device = next(model.parameters()).device
    order = np.argsort(-rows.lengths, kind="stable")  # texts of one length together: less padding
    features, logits, labels = [], [], []
    for start in range(0, len(order), size):
        batch = collate_batch([rows[int(row)] for row in order[start : start + size]])
        outputs = model(**{name: value.to(device) for name, value in model_inputs(batch).items()})
        features.append(outputs.features.float())
        logits.append(outputs.logits)
        labels.append(batch["labels"].to(device))
    return torch.cat(features, 1), torch.cat(logits, 1), torch.cat(labels)
