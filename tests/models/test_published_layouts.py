"""Files as DeBERTa-v3, ModernBERT and EuroBERT were published with them, of tiny size and with random weights."""

import json

import pytest
import torch
from tiny import tiny_batch, tiny_config
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from mebert.models import adapter_for, build_encoder

# What differs in the published config.json from what transformers writes today.
PUBLISHED = {
    "deberta-v2": {
        "pos_att_type": "p2c|c2p",
        "conv_kernel_size": 0,
        "position_buckets": 256,
        "max_relative_positions": -1,
    },
    "modernbert": {
        **{"global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0},
        **{"position_embedding_type": "absolute", "layer_norm_eps": 1e-05, "reference_compile": None},
    },
    "eurobert": {
        "auto_map": {
            "AutoConfig": "configuration_eurobert.EuroBertConfig",
            "AutoModel": "modeling_eurobert.EuroBertModel",
        },
        **{"rope_theta": 250000, "rope_scaling": None, "clip_qkv": None},
    },
}
REPLACED = ("layer_types", "rope_parameters")  # newer names of what is above


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_files_open(family, tmp_path):
    torch.manual_seed(0)
    given = {**tiny_config(family), "conv_kernel_size": 0}
    whole = AutoModelForMaskedLM.from_config(AutoConfig.for_model(**{**given, "position_buckets": 256}))
    whole.half().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    settings = {name: value for name, value in json.loads(file.read_text()).items() if name not in REPLACED}
    file.write_text(json.dumps({**settings, **PUBLISHED[family]}))
    encoder, batch = build_encoder(str(tmp_path)).eval(), tiny_batch(tokens=40)
    theirs = AutoModel.from_pretrained(tmp_path, dtype=torch.float32, trust_remote_code=False).eval()
    walk = adapter_for(encoder)
    with torch.no_grad():
        expected = theirs(**batch).last_hidden_state
        found = walk.final_norm(walk.advance(walk.start(**batch), walk.num_layers).hidden)
    torch.testing.assert_close(found, expected)
