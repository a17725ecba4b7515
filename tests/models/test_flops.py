import pytest
import torch
from tiny import counted_flops, tiny_batch, tiny_encoder, tiny_model

from mebert.inference import run_shrink
from mebert.models import SUPPORTED_FAMILIES, MultiExitModel, PrototypeBank
from mebert.models.flops import direct_exit_flops, exit_flops, single_exit_flops
from mebert.policies import FixedExit, HybridDistanceEntropy


def once_a_batch(model, layers):
    """DeBERTa's table of positions, which Hugging Face projects in every layer, once a batch and not for each text."""
    rows = getattr(model.adapter, "table_rows", 0)
    return layers * 2 * 2 * rows * model.hidden_size**2  # from and to the position


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_equal_to_the_flop_counter(family, attn):
    model = MultiExitModel(tiny_encoder(family, attn), num_labels=3, pooling="mean").eval().requires_grad_(False)
    batch = tiny_batch(batch=2, tokens=11, padded=False)
    lengths = batch["attention_mask"].sum(1)
    cost = exit_flops(model, lengths)
    assert cost.shape == (model.num_exits, 2)
    whole = once_a_batch(model, model.num_layers)
    assert cost[-1].sum() + whole == counted_flops(lambda: model(**batch))
    assert single_exit_flops(model, lengths).sum() + whole == counted_flops(lambda: model.last_exit(**batch))
    for index in range(model.num_exits):
        policy = FixedExit(exit=index + 1)
        straight = direct_exit_flops(model, lengths)[index].sum()  # the heads before a fixed exit are not run
        run = once_a_batch(model, index + 1)
        assert straight + run == counted_flops(lambda p=policy: run_shrink(model, p, batch)), f"exit {index + 1}"
        assert (straight < cost[index].sum()) == (index > 0)


@pytest.mark.parametrize("head", ["mlp", "linear", "shared"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "attention", "fastbert"])
def test_heads_and_poolings_are_counted_flops(pooling, head):
    model = tiny_model(pooling=pooling, head=head, exit_layers=[2, 3])
    batch = tiny_batch(batch=3, tokens=7, padded=False)
    assert exit_flops(model, batch["attention_mask"].sum(1))[-1].sum() == counted_flops(lambda: model(**batch))


def test_the_policys_own_products_are_counted_flops():
    model = tiny_model()
    model.prototypes = PrototypeBank(2, 32, 3, dim=8)
    model.prototypes.update(torch.randn(2, 6, 8), torch.arange(6) % 3)
    batch = tiny_batch(batch=4, padded=False)
    lengths = batch["attention_mask"].sum(1)
    never = HybridDistanceEntropy(1e-6).bind(model)
    expected = counted_flops(lambda: run_shrink(model, never, batch))
    assert exit_flops(model, lengths, never)[-1].sum() == expected
    off = never.with_threshold(0.0)  # a rule that can let nobody leave is not asked, and costs nothing
    assert counted_flops(lambda: run_shrink(model, off, batch)) == single_exit_flops(model, lengths).sum()


def test_a_sample_costs_its_own_tokens_not_its_padding():
    model = tiny_model()
    alone = exit_flops(model, torch.tensor([5]))
    together = exit_flops(model, torch.tensor([5, 40]))
    assert torch.equal(alone[:, 0], together[:, 0])
    assert (together[:, 1] > together[:, 0]).all()
