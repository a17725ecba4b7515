"""Layers of DeBERTa, ModernBERT and EuroBERT: what is theirs alone, beyond the tests of all families."""

import pytest
import torch
from tiny import as_hugging_face, counted_flops, tiny_batch, tiny_encoder, tiny_model
from torch.nn import functional as F

from mebert.inference import prepare_model
from mebert.inference.attention_plan import attend
from mebert.inference.fused_pre_norm import attend_locally
from mebert.models import MultiExitModel
from mebert.modules.two_stage import staged_outputs

OWN_LAYERS = ["deberta-v2", "modernbert", "eurobert"]


@torch.no_grad()
def assert_same_hidden_states(encoder, batch, precision="float32", **close):
    fast = prepare_model(MultiExitModel(encoder), precision)
    state = fast.adapter.advance(fast.start(**batch), fast.num_layers)
    hidden, mask = as_hugging_face(fast.adapter, state).padded()
    expected = encoder(**batch).last_hidden_state[batch["attention_mask"] == 1]
    torch.testing.assert_close(hidden[mask == 1].float(), expected, **close)


def padded_left(batch):
    return {name: value.flip(1) for name, value in batch.items()}


@pytest.mark.parametrize("window", [1, 3, 20])
def test_local_attention_in_blocks_is_masked_attention(window):
    query, key, value = torch.randn(3, 2, 4, 70, 8).unbind()
    padding = torch.zeros(2, 1, 1, 70)
    padding[1, ..., :50] = float("-inf")  # more padding than a window, before the text
    apart = (torch.arange(70)[:, None] - torch.arange(70)).abs()
    near = torch.zeros(70, 70).masked_fill(apart > window, float("-inf"))
    for mask in (None, padding):
        found = attend_locally(query, key, value, mask, window)
        whole = near if mask is None else near + mask
        expected = F.scaled_dot_product_attention(query, key, value, attn_mask=whole)
        real = slice(None) if mask is None else slice(50, None)
        torch.testing.assert_close(found[1, :, real], expected[1, :, real])
        assert found.isfinite().all()


@pytest.mark.parametrize("family", OWN_LAYERS)
def test_long_texts_and_padding_on_the_left(family):
    for batch in (
        tiny_batch(5, tokens=60),
        padded_left(tiny_batch(5, tokens=60)),
        tiny_batch(2, tokens=60, padded=False),
    ):
        assert_same_hidden_states(tiny_encoder(family), batch, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("longest", [33, 40])
def test_groups_wider_than_debertas_longest_text(longest):
    """In bfloat16 texts of one group are padded to multiples of 32."""
    encoder = tiny_encoder("deberta-v2", max_position_embeddings=longest)
    assert_same_hidden_states(encoder, tiny_batch(6, tokens=longest), "bfloat16", atol=0.1, rtol=0.1)


def test_a_prepared_deberta_does_not_project_its_table_again():
    model = tiny_model("deberta-v2").requires_grad_(False)
    fast, batch = prepare_model(model), tiny_batch(2, tokens=4, padded=False)
    table = model.num_layers * 2 * 2 * model.adapter.table_rows * model.hidden_size**2
    plain, prepared = (counted_flops(lambda made=made: made.last_exit(**batch)) for made in (model, fast))
    assert prepared < plain - table


def test_a_deberta_without_token_types_tells_texts_apart_by_the_separator():
    model, batch = tiny_model("deberta-v2"), tiny_batch()
    assert model.encoder.config.type_vocab_size == 0
    with torch.no_grad():
        with_types = model(**batch, token_type_ids=torch.ones_like(batch["input_ids"]))
        torch.testing.assert_close(with_types.logits, model(**batch).logits, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["modernbert", "eurobert", "xlm-roberta-xl"])
def test_exits_read_through_the_final_norm_which_is_frozen_with_the_layers(family):
    model, batch = tiny_model(family), tiny_batch()
    with torch.no_grad():
        states = model.encoder(**batch, output_hidden_states=True).hidden_states
        read = [*map(model.adapter.final_norm, states[1:-1]), states[-1]]  # the last is through it already
        found = model(**batch).features
    torch.testing.assert_close(found, torch.stack([hidden[:, 0] for hidden in read]))
    staged_outputs(model, batch, second=True).logits.sum().backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    model(**batch).logits[0].sum().backward()
    norm = getattr(model.encoder, getattr(model.adapter, "norm_at", ""), None) or model.encoder.encoder.LayerNorm
    assert norm.weight.grad is not None


@pytest.mark.parametrize("family", OWN_LAYERS)
def test_int8(family):
    model, batch = tiny_model(family, pooling="mean"), tiny_batch(6)
    with torch.no_grad():
        found, expected = prepare_model(model, "int8")(**batch).logits, model(**batch).logits
    assert (found - expected).abs().max() < 0.2 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["deberta-v2", "modernbert"])
def test_compiled_layers_give_the_same(family):
    model = tiny_model(family, pooling="mean")
    fast = prepare_model(model, compile=True)
    for batch in (tiny_batch(9), tiny_batch(1, tokens=5), tiny_batch(4, padded=False)):
        with torch.no_grad():
            torch.testing.assert_close(fast(**batch).logits, model(**batch).logits, atol=1e-4, rtol=1e-3)


def test_more_keys_than_queries_in_plain_products():
    query, key, value = (torch.randn(2, 12, tokens, 8).bfloat16() for tokens in (40, 90, 90))
    found = attend(query, key, value, None, scale=0.5)
    expected = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=0.5)
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)
