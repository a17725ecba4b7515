import pytest
import torch

from mebert.errors import UserError
from mebert.models import PrototypeBank


def test_moving_average_by_hand():
    bank = PrototypeBank(1, 4, 2, dim=2, gamma=0.25)
    first = torch.tensor([[[1.0, 1.0], [3.0, 3.0], [10.0, 0.0]]])
    bank.update(first, torch.tensor([0, 0, 1]))
    assert bank.prototypes.tolist() == [[[2.0, 2.0], [10.0, 0.0]]]  # the first class means start the averages
    bank.update(torch.tensor([[[6.0, 2.0]]]), torch.tensor([0]))
    assert bank.prototypes.tolist() == [[[3.0, 2.0], [10.0, 0.0]]]  # 0.75 * 2 + 0.25 * 6; class 1 was not in the batch


def test_rows_without_label_do_not_move_prototypes():
    bank = PrototypeBank(1, 4, 2, dim=2)
    bank.update(torch.ones(1, 2, 2), torch.tensor([0, -1]))
    assert bank.seen.tolist() == [True, False]


def test_distances_are_euclidean_and_infinite_for_unseen_classes():
    bank = PrototypeBank(2, 4, 3, dim=5)
    bank.update(torch.randn(2, 6, 5), torch.tensor([0, 1, 0, 1, 0, 1]))
    features = torch.randn(2, 7, 4)
    got = bank.distances_of(bank.embed(features))
    for m in range(2):
        g = features[m] @ bank.weight[m].T + bank.bias[m]
        torch.testing.assert_close(got[m, :, :2], torch.cdist(g, bank.prototypes[m, :2]))
        torch.testing.assert_close(bank.distances(m, features[m]), got[m])
    assert torch.isinf(got[..., 2]).all()


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": 1.5}, {"dim": 0}, {"num_labels": 1}], ids=str)
def test_bad_settings_are_named(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        PrototypeBank(**{"num_networks": 1, "hidden_size": 4, "num_labels": 2, **settings})
