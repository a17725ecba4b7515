"""Prototypes for a model that was trained without: one pass over labelled data, whatever the recipe.

Shapes: M exits with a prototypical network (all but the last), B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.models.prototypes import PrototypeBank

__all__ = ["fit_prototypes"]


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
    if model.num_exits < 2:
        raise UserError("prototypes need at least 2 exits: every exit but the last has a prototypical network")
    if not 0 < shrinkage <= 1:
        raise UserError(f"shrinkage must be in (0, 1], got {shrinkage}")
    size, classes = model.feature_size, model.num_labels
    bank = PrototypeBank(model.num_exits - 1, size, classes, dim=size)
    device = next(model.parameters()).device
    sums = torch.zeros(bank.num_networks, classes, size, dtype=torch.float64, device=device)
    squares = torch.zeros(bank.num_networks, size, size, dtype=torch.float64, device=device)
    counts = torch.zeros(classes, dtype=torch.float64, device=device)
    training = model.training
    model.eval()
    for batch in batches:
        labels = batch["labels"].to(device)
        known = labels >= 0
        features = model(**{name: value.to(device) for name, value in model_inputs(batch).items()}).features
        h = features[:-1, known].double()
        one_hot = torch.nn.functional.one_hot(labels[known], classes).double()
        sums += torch.einsum("bc,mbf->mcf", one_hot, h)
        squares += h.mT @ h
        counts += one_hot.sum(0)
    model.train(training)
    total = counts.sum()
    if not total:
        raise UserError("prototypes are fitted to labelled rows, and there are none")
    means = sums / counts.clamp_min(1).unsqueeze(-1)
    within = (squares - torch.einsum("c,mcf,mcg->mfg", counts, means, means)) / total
    variance = within.diagonal(dim1=1, dim2=2).mean(1).view(-1, 1, 1)
    covariance = (1 - shrinkage) * within + shrinkage * variance * torch.eye(size, device=device)
    values, vectors = torch.linalg.eigh(covariance)
    whitening = (vectors * values.clamp_min(1e-12).rsqrt().unsqueeze(1)) @ vectors.mT
    centre = (sums.sum(1) / total).unsqueeze(1)  # (M, 1, F)
    bank = bank.to(device)
    bank.weight.copy_(whitening)
    bank.bias.copy_(-(centre @ whitening.mT).squeeze(1))
    bank.prototypes.copy_((means - centre) @ whitening.mT)
    bank.seen.copy_(counts > 0)
    return bank
