"""The fused, packed layers against Hugging Face's own."""

import copy

import pytest
import torch
from tiny import SIZES, as_hugging_face, tiny_batch, tiny_config, tiny_encoder, tiny_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from mebert.errors import UserError
from mebert.inference import prepare as prepare_module
from mebert.inference import prepare_model
from mebert.inference.attention_plan import LANES
from mebert.models import MultiExitModel
from mebert.models.flops import exit_flops


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("family", list(SIZES))
def test_every_layer_equals_hugging_faces(family, padded):
    encoder = tiny_encoder(family)
    fast = prepare_model(MultiExitModel(encoder))
    batch = tiny_batch(7, tokens=11, padded=padded)
    with torch.no_grad():
        expected = encoder(**batch, output_hidden_states=True).hidden_states
        state = fast.start(**batch)
        for depth in range(fast.num_layers + 1):
            state = fast.adapter.advance(state, depth)
            hidden, mask = as_hugging_face(fast.adapter, state).padded()
            real = batch["attention_mask"][:, : mask.shape[1]] == 1
            torch.testing.assert_close(hidden[real], expected[depth][:, : mask.shape[1]][real], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", list(SIZES))
@torch.no_grad()
def test_bfloat16_rounds_no_more_than_hugging_faces(family):
    """Against float32: with short texts and with those from which attention is computed by plain products."""
    encoder = tiny_encoder(family)
    half, fast = copy.deepcopy(encoder).bfloat16(), prepare_model(MultiExitModel(encoder), "bfloat16")
    for batch in (tiny_batch(6), tiny_batch(12, tokens=40), tiny_batch(1, tokens=40)):
        real = batch["attention_mask"] == 1
        state = fast.adapter.advance(fast.start(**batch), fast.num_layers)
        exact = encoder(**batch).last_hidden_state[real]
        theirs = (half(**batch).last_hidden_state.float()[real] - exact).square().mean().sqrt()
        ours = (as_hugging_face(fast.adapter, state).padded()[0].float()[real] - exact).square().mean().sqrt()
        assert ours <= 1.2 * theirs


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@torch.no_grad()
def test_layers_see_few_numbers_of_tokens_in_bfloat16(precision):
    fast, seen, tokens = prepare_model(tiny_model(), precision), [], []
    fast.adapter.layers[0][0].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    for rows in range(1, 13):
        state = fast.adapter.advance(fast.start(**tiny_batch(rows, tokens=11)), 1)
        tokens.append(len(state.hidden))
        assert tokens[-1] == state.layout.spans.sum()
    assert seen == ([-(-n // LANES) * LANES for n in tokens] if precision == "bfloat16" else tokens)
    assert len({*tokens}) > len({-(-n // LANES) for n in tokens}), "several numbers become one"


def test_survivors_are_trimmed_when_the_longest_leave():
    fast = prepare_model(MultiExitModel(tiny_encoder()))
    batch = tiny_batch(7, tokens=11)
    lengths = batch["attention_mask"].sum(1)
    short = (lengths < lengths.max()).nonzero().squeeze(-1)
    with torch.no_grad():
        state = fast.adapter.advance(fast.start(**batch), 1)
        assert state.hidden.shape[0] == lengths.sum(), "no padding is computed"
        kept = state.keep(short)
        assert kept.hidden.shape[0] == lengths[short].sum()
        assert kept.padded()[0].shape[1] == lengths[short].max() < 11
        after, whole = (fast.adapter.advance(s, 3) for s in (kept, state))
        back = fast.adapter.join([after, whole.keep((lengths == lengths.max()).nonzero().squeeze(-1))])
    assert back.padded()[0].shape[:2] == (7, 11)
    torch.testing.assert_close(after.hidden, whole.keep(short).hidden, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "given"),
    [("albert", {"inner_group_num": 2}), *(("bert", {"hidden_act": a}) for a in ("gelu", "gelu_new", "relu", "silu"))],
    ids=str,
)
def test_groups_of_several_layers_and_other_activations(family, given):
    encoder, batch = tiny_encoder(family, **given), tiny_batch(4)
    with torch.no_grad():
        expected = encoder(**batch).last_hidden_state
        fast = prepare_model(MultiExitModel(encoder))
        hidden, _ = fast.adapter.advance(fast.start(**batch), fast.num_layers).padded()
    real = batch["attention_mask"] == 1
    torch.testing.assert_close(hidden[real], expected[real], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "attention", "fastbert"])
def test_every_pooling_reads_the_same_from_packed_tokens(pooling):
    model = tiny_model(pooling=pooling)
    fast = prepare_model(model)
    for batch in (tiny_batch(9), tiny_batch(1), tiny_batch(9, padded=False)):
        with torch.no_grad():
            expected, got = model(**batch), fast(**batch)
        torch.testing.assert_close(got.logits, expected.logits, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(got.features, expected.features, atol=1e-4, rtol=1e-3)


def test_a_single_exit_model_of_hugging_face_gives_the_same_logits():
    """The whole way, against BertForSequenceClassification: its pooler and classifier as the last exit's head."""
    torch.manual_seed(0)
    theirs = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(**tiny_config("bert"), num_labels=3)
    ).eval()
    ours = MultiExitModel(theirs.bert, num_labels=3)
    head = ours.exit(ours.num_exits - 1).classifier
    head[0].load_state_dict(theirs.bert.pooler.dense.state_dict())
    head[3].load_state_dict(theirs.classifier.state_dict())
    batch = tiny_batch(9)
    with torch.no_grad():
        torch.testing.assert_close(prepare_model(ours).last_exit(**batch), theirs(**batch).logits, atol=1e-5, rtol=1e-4)


def test_the_model_itself_is_left_as_it_is():
    model = tiny_model(pooling="fastbert").train()
    before = copy.deepcopy(model.state_dict())
    fast = prepare_model(model, "bfloat16")
    assert model.training
    assert not fast.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len(model.encoder.encoder.layer) == 3
    lengths = torch.tensor([5, 9])
    assert torch.equal(exit_flops(fast, lengths), exit_flops(model, lengths))
    assert sum(p.numel() for p in fast.parameters()) <= 1.01 * sum(p.numel() for p in model.parameters())


def test_compiling_without_a_compiler_says_what_to_do(monkeypatch):
    monkeypatch.setattr(prepare_module.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler"):
        prepare_model(tiny_model(), compile=True)


@pytest.mark.slow
def test_compiled_layers_give_the_same():
    model = tiny_model(pooling="mean")
    fast = prepare_model(model, compile=True)
    for batch in (tiny_batch(9), tiny_batch(1, tokens=5), tiny_batch(4, padded=False)):
        with torch.no_grad():
            torch.testing.assert_close(fast(**batch).logits, model(**batch).logits, atol=1e-4, rtol=1e-3)
