"""A model and the record of its exits on 60 samples."""

import pytest
import torch
from tiny import tiny_batch, tiny_model

from mebert.metrics.curve import ExitRecord
from mebert.models import model_inputs
from mebert.policies import Entropy, MaxProbability


@pytest.fixture(scope="module")
def recorded():
    """The model, the record, the policies whose scores it has, and their thresholds by speed-up."""
    model, batch = tiny_model(), tiny_batch(batch=60, tokens=12)
    with torch.no_grad():
        logits = model(**model_inputs(batch)).logits
    torch.manual_seed(0)
    labels, lengths = torch.randint(0, 3, (60,)), batch["attention_mask"].sum(1)
    record = ExitRecord(logits, labels, torch.arange(60), lengths, difficulty=torch.arange(60) % 2 + 1)
    policies = {"entropy": Entropy(0.6).bind(model), "max_prob": MaxProbability().bind(model)}
    record.scores = {n: torch.stack([p.score(0, x, x) for x in logits]) for n, p in policies.items()}
    return model, record, policies, {"entropy": {1.5: 0.9, 2.0: 0.95}, "max_prob": {1.5: 0.4}}
