"""Prototypes fitted after training, against scipy's Mahalanobis distance, and the policies on top of them."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from tiny import tiny_batch, tiny_model

from mebert.errors import UserError
from mebert.models import fit_prototypes
from mebert.policies import HybridDistanceEntropy


def labelled(rows=60, size=13, classes=3):
    batch = {**tiny_batch(rows, tokens=9, seed=5), "labels": torch.arange(rows) % classes}
    batch["labels"][7] = -1
    return batch, [{name: value[r] for name, value in batch.items()} for r in torch.arange(rows).split(size)]


@pytest.mark.parametrize("shrinkage", [0.1, 1.0])
def test_distances_are_mahalanobis_distances(shrinkage):
    model = tiny_model("albert", pooling="mean")
    batch, batches = labelled()
    bank = fit_prototypes(model, batches, shrinkage)
    with torch.no_grad():
        features = model(batch["input_ids"], batch["attention_mask"]).features
    labels = batch["labels"].numpy()
    for index in range(3):
        h = features[index].double().numpy()
        means = np.stack([h[labels == c].mean(0) for c in range(3)])
        spread = np.concatenate([h[labels == c] - means[c] for c in range(3)])
        covariance = spread.T @ spread / len(spread)
        covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 32 * np.eye(32)
        inverse = np.linalg.inv(covariance)
        expected = [[mahalanobis(row, mean, inverse) for mean in means] for row in h]
        found = bank.distances(index, features[index])
        torch.testing.assert_close(found, torch.tensor(expected).float(), atol=1e-2, rtol=1e-3)


def test_a_class_without_rows_has_no_prototype():
    model = tiny_model("bert", num_labels=4)
    batch, batches = labelled()
    model.prototypes = fit_prototypes(model, batches)
    assert not model.training
    with torch.no_grad():
        out = model(batch["input_ids"], batch["attention_mask"])
    assert model.prototypes.distances(0, out.features[0]).isinf().sum(0).tolist() == [0, 0, 0, 60]
    assert HybridDistanceEntropy(0.4).bind(model).score_exits(out.logits, out.features).isfinite().all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda b: fit_prototypes(tiny_model("bert", exit_layers=[3]), b), "at least 2 exits"),
        (lambda b: fit_prototypes(tiny_model("bert", num_labels=1), b), "at least 2 classes"),
        (lambda b: fit_prototypes(tiny_model("bert"), []), "there are none"),
        (lambda b: fit_prototypes(tiny_model("bert"), b, 0.0), r"shrinkage must be in \(0, 1\], got 0.0"),
    ],
)
def test_mistakes_are_named(make, text):
    with pytest.raises(UserError, match=text):
        make(labelled()[1])
