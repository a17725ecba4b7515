"""The linear predictor against scikit-learn, and its tie to a model."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tiny import SIZES, tiny_batch, tiny_model

from mebert import LinearExitPredictor, UserError


def test_the_fit_equals_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 6, generator=generator) * torch.tensor([1.0, 5.0, 0.1, 1.0, 1.0, 20.0]) + 3
    logits = features @ torch.randn(6, 3, generator=generator) * 0.2
    exits = torch.distributions.Categorical(logits=logits).sample()
    predictor = LinearExitPredictor(3, hidden_size=5, penalty=1.0).fit(features, exits)
    found = (features @ predictor.weight.T + predictor.bias).softmax(-1)
    scaled = StandardScaler().fit_transform(features.double().numpy())
    oracle = LogisticRegression(C=0.5, tol=1e-10, max_iter=2000).fit(scaled, exits.numpy())  # |w|^2 / 2 there
    np.testing.assert_allclose(found.numpy(), oracle.predict_proba(scaled), atol=2e-4)


def test_an_exit_that_nobody_took_is_not_predicted():
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    predictor = LinearExitPredictor(3, hidden_size=3).fit(features, torch.zeros(50, dtype=torch.int64))
    assert float((features @ predictor.weight.T + predictor.bias).softmax(-1)[:, 0].min()) > 0.9


def test_features_by_hand():
    model = tiny_model()
    batch = tiny_batch(batch=4)
    predictor = LinearExitPredictor(3, 32).bind(model)
    found = predictor.features(batch["input_ids"], batch["attention_mask"])
    embedded = model.encoder.embeddings(input_ids=batch["input_ids"])
    for row in range(4):
        length = int(batch["attention_mask"][row].sum())
        assert torch.allclose(found[row, :32], embedded[row, :length].mean(0), atol=1e-5)
        assert float(found[row, 32]) == pytest.approx(np.log(length), abs=1e-5)


@pytest.mark.parametrize("family", SIZES)
def test_every_family_has_embeddings_to_read(family):
    model = tiny_model(family)
    batch = tiny_batch(batch=3)
    predictor = LinearExitPredictor(model.num_exits, 32).bind(model)
    exits = predictor.predict(batch["input_ids"], batch["attention_mask"])
    assert exits.shape == (3,)


def test_it_must_be_bound_and_does_not_save_the_model():
    model, batch = tiny_model(), tiny_batch()
    predictor = LinearExitPredictor(3, 32)
    with pytest.raises(UserError, match="bind"):
        predictor.predict(batch["input_ids"], batch["attention_mask"])
    assert not any("encoder" in name for name in predictor.bind(model).state_dict())
    with pytest.raises(UserError, match="hidden size of 16"):
        LinearExitPredictor(3, 16).bind(model)
