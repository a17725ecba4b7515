"""Prototypes for a model that was trained without: one pass over labelled data, whatever the recipe.

Shapes: M exits with a prototypical network (all but the last), B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from mebert.errors import UserError
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.models.prototypes import PrototypeBank


@torch.no_grad()
def fit_prototypes(
    model: MultiExitModel, batches: Iterable[Mapping[str, Tensor]], shrinkage: float = 0.1
) -> PrototypeBank:
    """Prototypes for the policies `dr`, `edr` and `stacked`: set `model.prototypes` to them.

    The prototype of a class is its mean feature, and the network g = W (h - mean) makes the covariance within classes
    the identity, so that distances to prototypes are Mahalanobis distances (as of Lee et al., "A Simple Unified
    Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018; that DE3-BERT's ratio is
    taken of them is ours). Of one process; the model is left as it is.

    Args:
        model: With at least 2 exits and 2 classes.
        batches: `input_ids`, `attention_mask`, `labels` (B,) and, if the model reads it, `token_type_ids`; training
            data, best. Rows with a negative label are left out.
        shrinkage: Share of the covariance that is replaced by a multiple of the identity of the same mean variance, in
            (0, 1]; 1 gives plain distances between features.

    Raises:
        UserError: A regression, a single exit, no labelled row, or a shrinkage out of range.
    """
    sums = PrototypeSums(model)
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    for batch in batches:
        outputs = model(**{name: value.to(device) for name, value in model_inputs(batch).items()})
        sums.add(outputs.features, batch["labels"].to(device))
    model.train(training)
    return sums.bank(shrinkage)


class PrototypeSums:
    """Sums over rows of the exits' features, in float64, from which prototypes are made at the end."""

    def __init__(self, model: MultiExitModel) -> None:
        if model.multi_label:
            raise UserError("prototypes are means of classes, and rows of this model may have several labels")
        if model.num_exits < 2:
            raise UserError("prototypes need at least 2 exits: every exit but the last has a prototypical network")
        size, classes = model.feature_size, model.num_labels
        device = next(model.parameters()).device
        self._bank = PrototypeBank(model.num_exits - 1, size, classes, dim=size).to(device)
        self._sums = torch.zeros(model.num_exits - 1, classes, size, dtype=torch.float64, device=device)
        self._squares = torch.zeros(model.num_exits - 1, size, size, dtype=torch.float64, device=device)
        self._counts = torch.zeros(classes, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add features (M + 1, B, F), without those of the last exit, where the label (B,) is not negative."""
        known = labels >= 0
        h = features[:-1, known].double()
        one_hot = F.one_hot(labels[known], len(self._counts)).double()
        self._sums += torch.einsum("bc,mbf->mcf", one_hot, h)
        self._squares += h.mT @ h
        self._counts += one_hot.sum(0)

    @torch.no_grad()
    def bank(self, shrinkage: float = 0.1) -> PrototypeBank:
        """The prototypes of all rows that were added, as `fit_prototypes` returns them."""
        if not 0 < shrinkage <= 1:
            raise UserError(f"shrinkage must be in (0, 1], got {shrinkage}")
        total = self._counts.sum()
        if not total:
            raise UserError("prototypes are fitted to labelled rows, and there are none")
        means = self._sums / self._counts.clamp_min(1).unsqueeze(-1)
        within = (self._squares - torch.einsum("c,mcf,mcg->mfg", self._counts, means, means)) / total
        variance = within.diagonal(dim1=1, dim2=2).mean(1).view(-1, 1, 1)
        identity = torch.eye(within.shape[-1], dtype=within.dtype, device=within.device)
        covariance = (1 - shrinkage) * within + shrinkage * variance * identity
        values, vectors = torch.linalg.eigh(covariance)
        whitening = (vectors * values.clamp_min(1e-12).rsqrt().unsqueeze(1)) @ vectors.mT
        centre = (self._sums.sum(1) / total).unsqueeze(1)  # (M, 1, F)
        bank = self._bank
        bank.weight.copy_(whitening)
        bank.bias.copy_(-(centre @ whitening.mT).squeeze(1))
        bank.prototypes.copy_((means - centre) @ whitening.mT)
        bank.seen.copy_(self._counts > 0)
        return bank
