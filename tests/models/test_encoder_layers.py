"""`encoder_layers`: the first layers of an encoder alone."""

from __future__ import annotations

import pytest
import torch
from runs import experiment, newest, run, write_config
from tiny import SIZES, tiny_batch, tiny_config, tiny_encoder
from transformers import AutoModel

from mebert.errors import UserError
from mebert.models import MultiExitModel, build_encoder
from mebert.modules import MultiExitModule

FAMILIES = [family for family in SIZES if family != "albert"]


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


@pytest.mark.parametrize("layers", [0, 4])
def test_a_number_out_of_range_is_refused(layers):
    with pytest.raises(UserError, match=f"encoder_layers must be from 1 to 3.*got {layers}"):
        MultiExitModule(encoder_config=tiny_config("bert"), encoder_layers=layers)


def test_exits_end_with_the_last_layer_that_is_left():
    module = MultiExitModule(encoder_config=tiny_config("bert"), encoder_layers=2)
    assert module.model.exit_layers == (1, 2)
    with pytest.raises(UserError, match="from 1 to 2"):
        MultiExitModule(encoder_config=tiny_config("bert"), encoder_layers=2, exit_layers=[3])


def test_trained_tested_and_saved_through_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment(encoder_layers=1, exit_layers=[1])
    settings["model"]["class_path"] = "mebert.MultiExitModule"
    settings["model"]["init_args"].pop("prototype_dim")
    settings["trainer"]["max_epochs"] = 1
    write_config(tmp_path, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    folder = newest(tmp_path)
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", "best") == 0
    model = MultiExitModel.from_pretrained(folder / "model")
    assert (model.num_layers, model.exit_layers) == (1, (1,))
    assert AutoModel.from_pretrained(folder / "model").config.num_hidden_layers == 1
    again = MultiExitModule.load_from_checkpoint(folder / "checkpoints" / "best.ckpt", map_location="cpu")
    batch = tiny_batch()
    with torch.no_grad():
        torch.testing.assert_close(again.eval().model(**batch).logits, model(**batch).logits)
