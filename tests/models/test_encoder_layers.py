"""`encoder_layers`: the first layers of an encoder alone."""

import pytest
import torch
from tiny import SIZES, tiny_batch, tiny_config, tiny_encoder
from transformers import AutoModel

from mebert.errors import UserError
from mebert.models import MultiExitModel, build_encoder
from mebert.modules import MultiExitModule

FAMILIES = [family for family in SIZES if family != "albert"]  # its own test is below


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_first_layers_say_what_they_say_in_the_whole_encoder(family, layers, tmp_path):
    whole = tiny_encoder(family)
    whole.save_pretrained(tmp_path)
    part = build_encoder(str(tmp_path), layers=layers).eval()
    batch = tiny_batch()
    with torch.no_grad():
        expected = whole(**batch, output_hidden_states=True).hidden_states[layers]
        walk = MultiExitModel(part, num_labels=2).adapter
        found = walk.advance(walk.start(**batch), layers).hidden
    mask = batch["attention_mask"].bool()
    torch.testing.assert_close(found[mask], expected[mask])
    assert sum(p.numel() for p in part.parameters()) < sum(p.numel() for p in whole.parameters())


def test_an_albert_of_one_group_runs_its_layer_less_often(tmp_path):
    tiny_encoder("albert", num_hidden_groups=1).save_pretrained(tmp_path)
    assert build_encoder(str(tmp_path), layers=2).config.num_hidden_layers == 2
    with pytest.raises(UserError, match="2 groups"):
        build_encoder("unused", tiny_config("albert"), layers=2)


def test_exits_end_with_the_last_layer_that_is_left(tmp_path):
    module = MultiExitModule(encoder_config=tiny_config("bert"), encoder_layers=2)
    assert module.model.exit_layers == (1, 2)
    module.model.save_pretrained(tmp_path)
    assert MultiExitModel.from_pretrained(tmp_path).num_layers == 2
    assert AutoModel.from_pretrained(tmp_path).config.num_hidden_layers == 2
    with pytest.raises(UserError, match="from 1 to 2"):
        MultiExitModule(encoder_config=tiny_config("bert"), encoder_layers=2, exit_layers=[3])
