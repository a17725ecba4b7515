"""Tiny real encoders of every supported family, and batches for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from transformers import BertTokenizer, PreTrainedModel

from mebert.models import MultiExitModel, build_encoder
from mebert.models.encoder import EncoderAdapter
from mebert.models.layer_state import LayerState

SIZES: dict[str, dict[str, Any]] = {
    "bert": {"num_hidden_layers": 3},
    "roberta": {"num_hidden_layers": 3, "pad_token_id": 1},
    "xlm-roberta": {"num_hidden_layers": 3, "pad_token_id": 1},
    "albert": {"num_hidden_layers": 4, "num_hidden_groups": 2, "embedding_size": 16},
    "electra": {"num_hidden_layers": 3, "embedding_size": 16},
    "distilbert": {"n_layers": 3, "dim": 32, "n_heads": 4, "hidden_dim": 64},
    "ernie": {"num_hidden_layers": 3},
    "camembert": {"num_hidden_layers": 3, "pad_token_id": 1},
    "xlm-roberta-xl": {"num_hidden_layers": 3, "pad_token_id": 1},
    "mpnet": {"num_hidden_layers": 3},
    "deberta-v2": {
        **{"num_hidden_layers": 3, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True},
        **{"position_buckets": 8, "norm_rel_ebd": "layer_norm", "position_biased_input": False},
        **{"conv_kernel_size": 3, "conv_act": "gelu"},  # of the large ones of v2
    },
    "modernbert": {"num_hidden_layers": 4, "local_attention": 6, "pad_token_id": 1},
    "eurobert": {"num_hidden_layers": 3, "pad_token_id": 1},
}
COMMON = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
VOCABULARY = 50
REVIEW_WORDS = ["good", "fine", "great", "bad", "awful", "poor", "the", "film", "was", "a", "plot", "and", "cast"]


def tiny_config(family: str, **more: Any) -> dict[str, Any]:
    """Settings of a tiny encoder of a family."""
    shared = {} if family == "distilbert" else COMMON
    return {
        "model_type": family,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 64,
        **shared,
        **SIZES[family],
        **more,
    }


def tiny_encoder(family: str = "bert", attn: str = "sdpa", **more: Any) -> PreTrainedModel:
    """A tiny encoder with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return build_encoder("unused", tiny_config(family, **more), attn_implementation=attn).eval()


def tiny_model(family: str = "bert", num_labels: int = 3, **settings: Any) -> MultiExitModel:
    """A tiny multi-exit model in evaluation mode, its heads spread out so that exits disagree."""
    model = MultiExitModel(tiny_encoder(family), num_labels=num_labels, **settings).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.exits.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def tiny_batch(batch: int = 5, tokens: int = 9, padded: bool = True, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random token ids, with different lengths if `padded`."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (batch, tokens), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        lengths = torch.randint(2, tokens + 1, (batch,), generator=generator)
        lengths[0] = tokens
        mask = (torch.arange(tokens) < lengths.unsqueeze(1)).long()
        ids = torch.where(mask == 1, ids, torch.ones_like(ids))
    return {"input_ids": ids, "attention_mask": mask}


def as_hugging_face(adapter: EncoderAdapter, state: LayerState) -> LayerState:
    """A state with its hidden states as `output_hidden_states` lists them: the last are through the final norm."""
    return replace(state, hidden=adapter.final_norm(state.hidden)) if state.depth == adapter.num_layers else state


def words_tokenizer(reverse: bool = False) -> BertTokenizer:
    """The words w0, w1, ... as tokens from number 5, or from the last one to the first."""
    words = [f"w{i}" for i in range(VOCABULARY - 5)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(words[::-1] if reverse else words)]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=64)


def save_tokenizer(folder: Path, words: list[str], max_length: int = 64) -> str:
    """Save a BERT tokenizer of these words; returns the folder."""
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    BertTokenizer(vocab={word: i for i, word in enumerate(vocab)}, model_max_length=max_length).save_pretrained(folder)
    return str(folder)


def save_encoder(folder: Path) -> str:
    """Save a tiny BERT with random weights and a tokenizer of `REVIEW_WORDS`; returns the folder."""
    tiny_encoder().save_pretrained(folder)
    return save_tokenizer(folder, REVIEW_WORDS)


def quiet_trainer(*callbacks: L.Callback, **settings: Any) -> L.Trainer:
    """A trainer on the CPU, for one epoch unless told otherwise, that neither prints nor writes anything."""
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    given = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, **dict.fromkeys(quiet, False), **settings}
    return L.Trainer(callbacks=list(callbacks), **given)


# The counter knows the fused attention of CUDA by name but not yet that of the CPU; its own formula fits both.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
}


def counted_flops(function) -> int:
    """What PyTorch counts while a function runs."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        function()
    return counter.get_total_flops()
