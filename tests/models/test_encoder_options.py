"""Every option of every supported family's configuration: Hugging Face's hidden states, or refused by its name."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from typing import Any

import pytest
import torch
from tiny import SIZES, as_hugging_face, counted_flops, tiny_config
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.activations import ACT2FN

from mebert.errors import UserError
from mebert.inference import make_engine, prepare_model, run_engine
from mebert.models import SUPPORTED_FAMILIES, MultiExitModel, adapter_for, build_encoder
from mebert.models.encoder import REFUSED
from mebert.models.families import adapters_by_family
from mebert.policies import FixedExit

COPIES = ("ernie", "xlm-roberta", "camembert", "xlm-roberta-xl")  # embeddings of another family: options are slow tests
ACTIVATIONS = [name for name in ACT2FN if name != "gelu"]
DROPOUT = [0.0, 0.5]
SLOWLY = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
NO_LABELS = {"id2label": [{0: "a", 1: "b", 2: "c"}], "label2id": [{"a": 0, "b": 1, "c": 2}]}
# In each table: an option and values that differ from those of the tiny encoder.
SAME: dict[str, list[Any]] = {
    "vocab_size": [70],
    "max_position_embeddings": [14],  # of which 12 are left where positions start after the padding token
    "pad_token_id": [0, 1, 3],
    "layer_norm_eps": [0.5],
    "initializer_range": [0.1],
    "hidden_size": [16, 48],
    "num_hidden_layers": [1, 6],
    "num_attention_heads": [1, 2, 32],
    "intermediate_size": [1, 100],
    "type_vocab_size": [1, 3],
    "hidden_act": ACTIVATIONS,
    "hidden_dropout_prob": DROPOUT,
    "attention_probs_dropout_prob": DROPOUT,
    "embedding_size": [8, 32, 64],  # ELECTRA has no projection where it equals the hidden size, ALBERT has one
    "num_hidden_groups": [1, 3, 4, 6],  # of 4 layers
    "inner_group_num": [2, 3],
    "activation": ACTIVATIONS,
    "dim": [16, 48],
    "n_heads": [1, 2, 32],
    "n_layers": [1, 6],
    "hidden_dim": [1, 100],
    "dropout": DROPOUT,
    "attention_dropout": DROPOUT,
    "sinusoidal_pos_embds": [True],
    "use_task_id": [True],
    "relative_attention_num_buckets": [40],
    "relative_attention": [False],
    "pos_att_type": [["c2p"], ["p2c"], [], None],
    "position_buckets": [-1, 2, 256],
    "max_relative_positions": [4, 100],
    "position_biased_input": [True],
    "norm_rel_ebd": ["none"],
    "share_att_key": [False],
    "conv_kernel_size": [0, 5],
    "conv_groups": [2],
    "conv_act": ["tanh"],
    "hidden_activation": ACTIVATIONS,
    "norm_eps": [0.5],
    "norm_bias": [True],
    "attention_bias": [True],
    "mlp_bias": [True],
    "embedding_dropout": DROPOUT,
    "mlp_dropout": DROPOUT,
    "initializer_cutoff_factor": [3.0],
    "local_attention": [2, 1, 100],
    "layer_types": [["sliding_attention", "sliding_attention", "full_attention", "full_attention"]],
    "rope_parameters": [{"modernbert": {"full_attention": SLOWLY}, "eurobert": SLOWLY}],
    "num_key_value_heads": [2, 1],
    "head_dim": [4, 16],
    "rms_norm_eps": [0.5],
}
NO_EFFECT: dict[str, list[Any]] = {
    "architectures": [["BertForMaskedLM"]],
    "bos_token_id": [5],
    "eos_token_id": [6, [6, 7]],
    "classifier_dropout": [0.9],
    "classifier_dropout_prob": [0.9],
    "seq_classif_dropout": [0.9],
    "qa_dropout": [0.9],
    "is_encoder_decoder": [True],  # a decoder alone reads it
    "output_hidden_states": [True],
    "return_dict": [False],
    "problem_type": ["regression"],
    "summary_activation": ["tanh"],
    "summary_last_dropout": [0.9],
    "summary_type": ["mean"],
    "summary_use_proj": [False],
    "tie_word_embeddings": [False],
    "transformers_version": ["4.0.0"],
    "use_cache": [False],
    "pooler_dropout": [0.9],
    "pooler_hidden_act": ["tanh"],
    "legacy": [False],
    "cls_token_id": [5],
    "sep_token_id": [6],
    "mask_token_id": [7],
    "decoder_bias": [False],
    "classifier_pooling": ["mean"],
    "classifier_bias": [True],
    "classifier_activation": ["tanh"],
    "deterministic_flash_attn": [True],
    "sparse_prediction": [True],
    "sparse_pred_ignore_index": [-1],
    "pretraining_tp": [2],
    "task_type_vocab_size": [1],  # read with `use_task_id` only, of which the first is taken
    "dtype": ["float32"],  # others: `test_weights_are_float32_whatever_the_configuration_says`
    **NO_LABELS,
}
# An option, its value, and the families whose configuration class has it (None: any config.json may).
PADDED_FIRST = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl")  # positions start after the padding token
WITH_DECODERS = ("bert", "ernie", *PADDED_FIRST, "electra")
ROTARY = ("modernbert", "eurobert")  # rotary positions
REFUSED_VALUES: list[tuple[str, Any, tuple[str, ...] | None]] = [
    ("is_decoder", True, WITH_DECODERS),
    ("add_cross_attention", True, WITH_DECODERS),
    ("chunk_size_feed_forward", 3, SUPPORTED_FAMILIES),
    ("pad_token_id", None, PADDED_FIRST),
    ("relative_attention_num_buckets", 8, ("mpnet",)),
    ("num_attention_heads", 5, None),
    ("num_attention_heads", 0, None),
    ("num_hidden_layers", 0, None),
    ("num_hidden_groups", 0, ("albert",)),
    ("inner_group_num", 0, ("albert",)),
    ("type_vocab_size", 0, (*WITH_DECODERS, "albert")),
    ("local_attention", 0, ("modernbert",)),
    ("num_attention_heads", 32, ("modernbert",)),
    ("num_key_value_heads", 3, ("eurobert",)),
    ("rope_parameters", {"factor": 4.0, "rope_theta": 1e4, "rope_type": "dynamic"}, ("eurobert",)),
    ("position_buckets", 1, ("deberta-v2",)),
    ("norm_rel_ebd", 3, ("deberta-v2",)),
    ("conv_kernel_size", 4, ("deberta-v2",)),
    ("conv_act", "none", ("deberta-v2",)),
    ("position_embedding_type", "relative_key", None),
    ("pruned_heads", {"0": [1]}, None),
    ("per_layer_config", {"0": {"initializer_range": 0.1}}, None),
    ("auto_map", {"AutoModel": "modeling.Own"}, None),
]
BY_TRANSFORMERS = {("eurobert", "num_attention_heads"), ("modernbert", "num_hidden_layers")}  # it refuses them itself
REFUSED_NAMES = {name for name, _, _ in REFUSED_VALUES}


def options(family: str) -> list[str]:
    listed = [field.name for field in fields(AutoConfig.for_model(family))]
    return [*listed, *adapters_by_family()[family].unlisted_options]


def config(family: str, **more: Any) -> Any:
    return AutoConfig.for_model(**{**tiny_config(family, vocab_size=60), **more})


def theirs(family: str, attn: str = "sdpa", **more: Any) -> PreTrainedModel:
    """Hugging Face's encoder with weights that make a difference visible: biases and LayerNorms, too."""
    torch.manual_seed(0)
    adapter, settings = adapters_by_family()[family], config(family, **more)
    attn = attn if attn in adapter.attention else "eager"
    encoder = AutoModel.from_config(settings, attn_implementation=attn, **adapter.init_kwargs).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return encoder


def batches(encoder: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    """Six texts and one of up to 10 tokens: padded on the right, unpadded, padded on the left; with token types."""
    generator = torch.Generator().manual_seed(1)
    settings: Any = encoder.config
    padding, types = settings.pad_token_id or 0, getattr(settings, "type_vocab_size", 0)
    for rows in (6, 1):
        ids = torch.randint(5, settings.vocab_size, (rows, 10), generator=generator)
        lengths = torch.arange(rows) * 2 % 9 + 2  # 2, 4, ...: the longest is shorter than the batch is wide
        right = (torch.arange(10) < lengths.unsqueeze(1)).long()
        for number, mask in enumerate((right, torch.ones_like(ids), right.flip(1))):
            batch = {"input_ids": ids.where(mask == 1, padding), "attention_mask": mask}
            if types > 1 and number != 1:
                batch["token_type_ids"] = torch.randint(0, types, ids.shape, generator=generator) * mask
            yield batch


def close(got: Tensor, wanted: Tensor, of: str) -> None:
    """Within 1e-5, or 1e-5 of their size: between layers that normalise their input hidden states grow."""
    near = 1e-5 * max(1.0, float(wanted.square().mean().sqrt()))
    torch.testing.assert_close(got, wanted, atol=near, rtol=1e-5, msg=lambda text: f"{of}: {text}")


@torch.no_grad()
def compare(encoder: PreTrainedModel, most: int = 6) -> None:
    """The walk, the packed walk, and engines, against Hugging Face's forward pass, on at most that many batches."""
    model = MultiExitModel(encoder, num_labels=3, pooling="mean").eval()
    fast = prepare_model(model)
    step = getattr(encoder.config, "inner_group_num", 1)  # Hugging Face counts the layers of ALBERT's groups
    for number, batch in enumerate(islice(batches(encoder), most)):
        hidden_states = encoder(**batch, output_hidden_states=True, return_dict=True).hidden_states[::step]
        assert len(hidden_states) == model.num_layers + 1
        real = batch["attention_mask"].bool()
        state, packed = model.start(**batch), fast.start(**batch)
        for depth, wanted in enumerate(hidden_states):
            state, packed = model.adapter.advance(state, depth), fast.adapter.advance(packed, depth)
            close(as_hugging_face(model.adapter, state).hidden[real], wanted[real], f"batch {number}, layer {depth}")
            hidden, mask = as_hugging_face(fast.adapter, packed).padded()
            close(hidden[mask.bool()], wanted[real], f"batch {number}, layer {depth}, packed")
        rows, middle = torch.arange(len(real)), (model.num_exits + 1) // 2
        head = model.exit(middle - 1)
        read = hidden_states[middle] if middle == model.num_layers else model.adapter.final_norm(hidden_states[middle])
        wanted = head.classify(head.pool(read, batch["attention_mask"]))
        for name, made in {"shrink": model, "refill": fast}.items():
            engine = make_engine(name, made, FixedExit(exit=middle).bind(made), batch_size=4)
            parts = [({key: value[part] for key, value in batch.items()}, part) for part in rows.split(4)]
            close(run_engine(engine, parts).logits, wanted, f"batch {number}, {name}")


@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_every_option_of_a_family_is_in_a_list(family):
    assert {*options(family)} <= {*SAME, *NO_EFFECT, *REFUSED_NAMES}
    listed = {name for name, _, families in REFUSED_VALUES if families is not None and family in families}
    assert listed <= {*options(family)}
    assert not {*SAME} & {*NO_EFFECT}
    assert {*REFUSED} <= REFUSED_NAMES, "what is refused is tested"
    assert {*SAME, *NO_EFFECT} <= {name for other in SUPPORTED_FAMILIES for name in options(other)}


def is_slow(family: str, name: str) -> bool:
    """Of families with layers of their own only options that BERT has not, and evaluation reads, are fast tests."""
    own = adapters_by_family()[family].parts is None
    return family in COPIES or (own and (name in options("bert") or SAME[name] is DROPOUT))


@pytest.mark.parametrize(
    ("attn", "values", "batch_count"),
    [  # all values of an option, and texts one by one, are slow
        ("sdpa", 2, 3),
        pytest.param("sdpa", None, 6, marks=pytest.mark.slow),
        pytest.param("eager", None, 2, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("family", "name"),
    [
        pytest.param(family, name, marks=[pytest.mark.slow] * is_slow(family, name))
        for family in SUPPORTED_FAMILIES
        for name in options(family)
        if name in SAME
    ],
)
def test_an_option_gives_hugging_faces_hidden_states(family, name, attn, values, batch_count):
    sizes = SIZES[family]
    room = {"max_position_embeddings": 14 if family in (*PADDED_FIRST, "mpnet") else 10}
    for value in SAME[name][:values]:
        if (name, value) == ("num_attention_heads", 32) and family in ROTARY:
            continue  # refused: heads of an even width
        value = value[family] if name == "rope_parameters" else value
        given = room if name == "max_position_embeddings" else {name: value}
        compare(theirs(family, attn, **given), most=1 if SAME[name] is ACTIVATIONS else batch_count)
    assert all(value != sizes.get(name) for value in SAME[name]) or name in ("pad_token_id", "num_hidden_groups")


@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_options_without_effect_have_none(family):
    plain, names = theirs(family), [name for name in options(family) if name in NO_EFFECT]
    batch = next(batches(plain))
    for number in range(max(len(NO_EFFECT[name]) for name in names)):
        encoder = theirs(family, **{name: NO_EFFECT[name][number % len(NO_EFFECT[name])] for name in names})
        compare(encoder, most=1)
        with torch.no_grad():
            one, other = plain(**batch, return_dict=True), encoder(**batch, return_dict=True)
        assert torch.equal(one.last_hidden_state, other.last_hidden_state)


@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_dropout_and_gradients_are_hugging_faces_in_training(family):
    encoder = theirs(family, **dict.fromkeys(adapters_by_family()[family].dropout_keys, 0.3)).train()
    walk, batch = adapter_for(encoder), next(batches(encoder))
    torch.manual_seed(2)
    wanted = encoder(**batch).last_hidden_state
    torch.manual_seed(2)
    found = walk.final_norm(walk.advance(walk.start(**batch), walk.num_layers).hidden)
    close(found, wanted, "with dropout")
    for mine, its in zip(
        *(torch.autograd.grad(x.square().mean(), [*encoder.parameters()]) for x in (found, wanted)), strict=True
    ):
        close(mine, its, "gradient")
    assert not torch.allclose(encoder(**batch).last_hidden_state, wanted), "dropout is on"


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        (family, name, value)
        for name, value, families in REFUSED_VALUES
        for family in (SUPPORTED_FAMILIES if families is None else families)
        if (family, name) not in BY_TRANSFORMERS or families is not None
    ],
    ids=str,
)
def test_an_option_is_refused_by_name(family, name, value, tmp_path):
    settings = config(family)
    values = {**settings.to_dict(), settings.attribute_map.get(name, name): value}
    changed = type(settings).from_dict(values)
    changed.save_pretrained(tmp_path)
    with pytest.raises(UserError) as told:
        build_encoder(str(tmp_path))
    assert f"{tmp_path}': {name} is {value!r}, " in str(told.value)
    assert "\n" not in str(told.value)
    if name in options(family) and value:
        with pytest.raises(UserError, match=f"encoder_config: {name} is"):
            build_encoder("unused", {"model_type": family, **tiny_config(family), name: value})


@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_weights_are_float32_whatever_the_configuration_says(family, tmp_path):
    encoder = build_encoder("unused", tiny_config(family, dtype="float16"))
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("padding", [0, 1, 7])
@pytest.mark.parametrize("family", PADDED_FIRST)
def test_the_longest_text_ends_with_the_last_position(family, padding):
    walk = adapter_for(theirs(family, pad_token_id=padding, max_position_embeddings=20))
    assert walk.max_length == 19 - padding == prepare_model(MultiExitModel(walk.encoder)).adapter.max_length
    for more in (0, 1):
        ids = torch.full((1, walk.max_length + more), 9)
        if more:
            with pytest.raises((IndexError, RuntimeError)):
                walk.embed(ids, None)
        else:
            walk.embed(ids, None)


@pytest.mark.parametrize(
    ("family", "given"),
    [("albert", {"inner_group_num": 3}), ("albert", {"embedding_size": 32}), ("bert", {"embedding_size": 8})],
    ids=str,
)
def test_costs_are_those_that_pytorch_counts(family, given):
    model = MultiExitModel(theirs(family, **given), num_labels=3).eval()
    batch = {"input_ids": torch.full((1, 11), 9), "attention_mask": torch.ones(1, 11, dtype=torch.int64)}
    for made in (model, prepare_model(model)):
        assert made.sequential_exit_flops(torch.tensor([11]))[-1].sum() == counted_flops(lambda: model(**batch))
