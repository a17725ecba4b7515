import pytest
import torch
from tiny import tiny_batch, tiny_model
from transformers import AutoModel, BertTokenizer

from mebert.errors import UserError
from mebert.models import MultiExitModel, PrototypeBank
from mebert.policies import HybridDistanceEntropy
from mebert.policies.stored_thresholds import load_policy


def test_shapes_and_agreement_of_the_three_ways_to_run():
    model = tiny_model(exit_layers=[1, 3])
    batch = tiny_batch()
    with torch.no_grad():
        out = model(**batch)
        assert out.logits.shape == (2, 5, 3)
        assert out.features.shape == (2, 5, 32)
        for index, logits, features in model.forward_layers(**batch):
            torch.testing.assert_close(logits, out.logits[index])
            torch.testing.assert_close(features, out.features[index])
        torch.testing.assert_close(model.last_exit(**batch), out.logits[-1])


def test_forward_layers_stops_when_the_caller_stops():
    model = tiny_model()
    calls = []
    for i, layer in enumerate(model.encoder.encoder.layer):
        layer.register_forward_hook(lambda *_, i=i: calls.append(i))
    with torch.no_grad():
        next(model.forward_layers(**tiny_batch()))
    assert calls == [0]


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "attention", "fastbert"])
def test_padding_never_changes_an_exit(pooling):
    model = tiny_model(pooling=pooling)
    short = tiny_batch(batch=2, tokens=5, padded=False)
    longer = {k: torch.nn.functional.pad(v, (0, 6)) for k, v in short.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**longer).logits, model(**short).logits)


def test_mean_pooling_by_hand():
    model = tiny_model(pooling="mean")
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    assert model.exit(0).pool(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


@pytest.mark.parametrize("layers", [[], [2, 1, 3], [1, 2], [1, 1, 3]])
def test_bad_exit_layers_are_named(layers):
    with pytest.raises(UserError, match=r"exit_layers must be increasing layer numbers from 1 to 3 .* got"):
        tiny_model(exit_layers=layers)


def test_label_names_must_fit():
    with pytest.raises(UserError, match="label_names has 2 names, but num_labels is 3"):
        tiny_model(label_names=["a", "b"])
    with pytest.raises(UserError, match="label_names must be distinct, got a, b, a"):
        tiny_model(label_names=["a", "b", "a"])


@pytest.mark.parametrize(
    ("family", "pooling", "width"), [("bert", "attention", 32), ("albert", "mean", 32), ("distilbert", "fastbert", 128)]
)
def test_save_and_load_give_the_same_logits_policy_and_names(family, pooling, width, tmp_path):
    model = tiny_model(family, pooling=pooling, exit_layers=None, label_names=["yes", "no", "maybe"])
    assert model.feature_size == width
    model.prototypes = PrototypeBank(model.num_exits - 1, width, 3, dim=8, gamma=0.5)
    model.prototypes.update(torch.randn(model.num_exits - 1, 6, 8), torch.tensor([0, 1, 2, 0, 1, 2]))
    policy = HybridDistanceEntropy(0.25, lam=2.0).bind(model)
    tokenizer = BertTokenizer(vocab={w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])})
    model.save_pretrained(tmp_path / "m", tokenizer=tokenizer, policy=policy)

    loaded = MultiExitModel.from_pretrained(tmp_path / "m")
    loaded_policy = load_policy(tmp_path / "m", loaded)
    batch = tiny_batch()
    with torch.no_grad():
        expected, got = model(**batch), loaded(**batch)
    torch.testing.assert_close(got.logits, expected.logits, rtol=0, atol=0)
    assert not loaded.training
    assert loaded.label_names == ["yes", "no", "maybe"]
    assert loaded_policy == policy
    scores = [p.score(0, expected.logits[0], expected.features[0]) for p in (policy, loaded_policy)]
    torch.testing.assert_close(*scores)
    # The folder is also an ordinary Hugging Face one.
    assert AutoModel.from_pretrained(tmp_path / "m").config.id2label == {0: "yes", 1: "no", 2: "maybe"}
    assert BertTokenizer.from_pretrained(tmp_path / "m").vocab_size == 6
