"""Prototypes beside a recipe that trains none: fitted again before each validation, for the policies that read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np

from mebert.errors import UserError
from mebert.models.fitted_prototypes import fit_prototypes
from mebert.models.prototypes import PrototypeBank
from mebert.scoring import evaluation_mode

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel

__all__ = ["check_rows", "give_untrained_bank", "has_fitted_bank", "refit"]

MAX_ROWS = 2048
"""Training rows that prototypes are fitted to, at most: class means of a few hundred features need no more."""


def give_untrained_bank(model: MultiExitModel) -> None:
    """Give a model without prototypes a bank of the shape that `fit_prototypes` fills; no gradient trains it.

    Raises:
        UserError: A regression, or a single exit.
    """
    if model.num_exits < 2:
        raise UserError("prototypes need at least 2 exits: every exit but the last has a prototypical network")
    size = model.feature_size
    bank = PrototypeBank(model.num_exits - 1, size, model.num_labels, dim=size).requires_grad_(False)
    model.prototypes = bank.to(next(model.parameters()).device)


def has_fitted_bank(model: MultiExitModel) -> bool:
    """Whether the model's prototypes are fitted and not trained."""
    return model.prototypes is not None and not model.prototypes.weight.requires_grad


def check_rows(datamodule: Any) -> None:
    """Raise a UserError where there are no tokenised training rows to fit prototypes to."""
    if not hasattr(datamodule, "collate_for"):
        given = "plain loaders" if datamodule is None else type(datamodule).__name__
        raise UserError(
            f"prototypes are fitted to training rows, and {given} has none that are tokenised; train with "
            "TextDataModule (or a subclass) as datamodule, take ProtoExitModule, or choose a policy without prototypes"
        )


def refit(trainer: L.Trainer, model: MultiExitModel) -> None:
    """Fit the bank to (at most 2,048 of) the training rows, as the model is now.

    Every process does the same on the same rows, so that nothing has to be sent; nothing is drawn from the global
    random state.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    check_rows(data)
    rows = data.split("train")
    if len(rows) > MAX_ROWS:
        rows = rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:MAX_ROWS]))
    collate_batch, size = data.collate_for(), data.eval_batch_size
    order = np.argsort(-rows.lengths, kind="stable")  # texts of one length together: less padding
    batches = (
        collate_batch([rows[int(row)] for row in order[start : start + size]]) for start in range(0, len(order), size)
    )
    with evaluation_mode(model), trainer.precision_plugin.forward_context():
        bank = fit_prototypes(model, batches)
    assert model.prototypes is not None
    model.prototypes.load_state_dict(bank.state_dict())
