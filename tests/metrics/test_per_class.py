"""Per class against scikit-learn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mebert.metrics.per_class import class_report


@given(st.integers(2, 5), st.integers(0, 2**31), st.sampled_from([0.0, 1.0, 5.0]))
def test_as_scikit_learn(classes, seed, bias):
    """Some classes do not occur and some are never predicted; a row without a label does not count."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(20, classes, generator=generator)
    logits[:, 0] += bias
    labels = torch.randint(-1, classes, (20,), generator=generator)
    labels[0] = 0
    names = [f"name {c}" for c in range(classes)]
    found = class_report(logits, labels, names)
    known = labels >= 0
    true, predicted, numbers = labels[known].numpy(), logits[known].argmax(-1).numpy(), range(classes)
    oracle = precision_recall_fscore_support(true, predicted, labels=list(numbers), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), oracle, strict=True):
        assert [getattr(row, name) for row in found.classes] == pytest.approx(values.tolist())
    assert [row.label for row in found.classes] == names
    assert found.matrix == confusion_matrix(true, predicted, labels=list(numbers)).tolist()
    assert set(found.as_dict()["classes"][0]) == {"label", "precision", "recall", "f1", "support"}
