import pytest
import torch
from tiny import SIZES, as_hugging_face, tiny_batch, tiny_config, tiny_encoder
from torch import nn
from transformers import AutoModel, GPT2Config

from mebert.errors import UserError
from mebert.models import SUPPORTED_FAMILIES, MultiExitModel, adapter_for, build_encoder


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_layer_outputs_equal_hugging_face_hidden_states(family, padded, attn):
    encoder = tiny_encoder(family, attn)
    batch = tiny_batch(padded=padded)
    with torch.no_grad():
        expected = encoder(**batch, output_hidden_states=True).hidden_states
        walk = adapter_for(encoder)
        state = walk.start(**batch)
        for depth in range(1, walk.num_layers + 1):
            state = walk.advance(state, depth)
            torch.testing.assert_close(as_hugging_face(walk, state).hidden, expected[depth], rtol=0, atol=0)
    assert len(expected) == walk.num_layers + 1


def test_token_types_reach_the_embeddings():
    encoder = tiny_encoder("bert")
    batch = tiny_batch()
    types = (torch.arange(9) > 4).long().expand(5, -1)
    with torch.no_grad():
        expected = encoder(**batch, token_type_ids=types, output_hidden_states=True).hidden_states[-1]
        walk = adapter_for(encoder)
        got = walk.advance(walk.start(**batch, token_type_ids=types), walk.num_layers).hidden
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_filtering_rows_midway_does_not_change_the_others(family, attn):
    encoder = tiny_encoder(family, attn)
    batch = tiny_batch()
    walk = adapter_for(encoder)
    rows = torch.tensor([1, 3])
    with torch.no_grad():
        whole = walk.advance(walk.start(**batch), walk.num_layers)
        part = walk.advance(walk.advance(walk.start(**batch), 1).keep(rows), walk.num_layers)
    mask = batch["attention_mask"][rows].bool()
    torch.testing.assert_close(part.hidden[mask], whole.hidden[rows][mask])


def test_dropout_is_on_after_building_and_can_be_replaced():
    encoder = build_encoder("unused", tiny_config("bert"))
    assert encoder.training
    assert {m.p for m in encoder.modules() if isinstance(m, nn.Dropout)} == {0.1}
    for family in SUPPORTED_FAMILIES:
        without = build_encoder("unused", tiny_config(family), dropout=0.0)
        assert {m.p for m in without.modules() if isinstance(m, nn.Dropout)} <= {0.0}
        assert {getattr(without.config, key) for key in adapter_for(without).dropout_keys} == {0.0}


def test_pretrained_weights_arrive_in_float32_and_training_mode(tmp_path):
    tiny_encoder("bert").half().save_pretrained(tmp_path)
    encoder = build_encoder(str(tmp_path))
    assert encoder.training
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_unsupported_family_is_refused_with_the_list():
    gpt = AutoModel.from_config(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10))
    with pytest.raises(UserError, match=rf"family 'gpt2'.*{', '.join(SUPPORTED_FAMILIES)}"):
        MultiExitModel(gpt)


def test_every_family_is_tested():
    """The tests of families, of every folder, go through the tiny encoders of `SIZES`."""
    assert set(SIZES) == set(SUPPORTED_FAMILIES)


LONGEST = {"bert": 64, "ernie": 64, "distilbert": 64, "roberta": 62, "xlm-roberta-xl": 62, "mpnet": 62}


@pytest.mark.parametrize(("family", "longest"), LONGEST.items())
def test_the_longest_input_really_fits(family, longest):
    encoder = tiny_encoder(family)
    walk = adapter_for(encoder)
    assert walk.max_length == longest
    with torch.no_grad():
        encoder(**tiny_batch(tokens=longest, padded=False))
        with pytest.raises((IndexError, RuntimeError)):
            encoder(**tiny_batch(tokens=longest + 1, padded=False))
