"""SelfDistillModule: the same training as its parts set one by one, and what each default gives way to."""

import pytest
import torch
from modules.recipes import loader, make
from tiny import quiet_trainer

from mebert import CurriculumDistillModule, SelfDistillModule


def test_it_is_its_parts_by_their_own_settings():
    given = {"distillation": "vanilla", "pooling": "mean", "head_learning_rate": 1e-3}
    trained = []
    for kind, settings in ((SelfDistillModule, {}), (CurriculumDistillModule, given)):
        module = make(kind, learning_rate=1e-4, **settings)
        quiet_trainer().fit(module, loader(2, padded=True))
        trained.append(module.model.state_dict())
    torch.testing.assert_close(*trained, rtol=0, atol=0)


def test_loaders_without_tokenised_rows_are_no_fault():
    """The rule then does without prototypes, which are fitted to such rows."""
    module = make(SelfDistillModule)
    quiet_trainer().fit(module, loader(2, padded=True), loader(2, padded=True))
    assert module.model.prototypes is None


def test_a_rate_or_a_threshold_that_is_given_is_taken():
    assert make(SelfDistillModule, learning_rate=1e-4).own_rates()[0][1] == pytest.approx(1e-3)
    assert make(SelfDistillModule, head_learning_rate=2e-4).own_rates()[0][1] == 2e-4
    policy = make(SelfDistillModule, threshold=0.3).policy
    assert (policy.name, policy.threshold) == ("stacked", 0.3)
    assert make(SelfDistillModule, num_labels=1).policy.name == "change"
