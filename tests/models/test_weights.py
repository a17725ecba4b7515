"""Weights that are missing, unknown, or no numbers are told by name, whatever file they are in."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_config, tiny_encoder, tiny_model
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from mebert.errors import UserError
from mebert.models import SUPPORTED_FAMILIES, MultiExitModel, build_encoder
from mebert.modules.teacher_sources import find_teacher

KEY = "encoder.layer.1.output.dense.weight"
LAST = "encoder.layer.2."


def saved(folder, form, **changed):
    """A tiny BERT's folder with changed weights (None: without it), in one of the forms that files have."""
    tiny_encoder().save_pretrained(folder)
    state = load_file(folder / "model.safetensors") | {
        name.replace("__", "."): value for name, value in changed.items()
    }
    state = {name: value for name, value in state.items() if value is not None}
    (folder / "model.safetensors").unlink()
    if form.endswith("bin"):
        torch.save(state, folder / "pytorch_model.bin")
    elif form == "shards":
        names = sorted(state)
        parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
        for file, keys in parts.items():
            save_file({key: state[key] for key in keys}, folder / file, metadata={"format": "pt"})
        places = {key: file for file, keys in parts.items() for key in keys}
        text = json.dumps({"metadata": {}, "weight_map": places})
        (folder / "model.safetensors.index.json").write_text(text)
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def told(what, **settings):
    with pytest.raises(UserError) as error:
        build_encoder(what, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


NAN, INFINITE = (torch.full((32, 64), value) for value in (float("nan"), float("-inf")))


@pytest.mark.parametrize("form", ["safetensors", "shards", "bin"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (NAN, "1 weight (KEY) is NaN or infinite"),
        (INFINITE, "1 weight (KEY) is NaN or infinite"),
        (torch.full((32, 64), 1e39, dtype=torch.float64), "1 weight (KEY) is NaN or infinite"),  # in float32
        (torch.ones(32, 64, dtype=torch.int8), "1 weight (KEY) is no floating-point numbers ("),
        (torch.ones(32, 64, dtype=torch.uint8), "1 weight (KEY) is no floating-point numbers ("),
        (torch.ones(32, 64, dtype=torch.float8_e4m3fn), "1 weight (KEY) is no floating-point numbers ("),
        (None, "do not fit its config.json: 1 weight (KEY) is missing"),
        (torch.ones(32, 63), "do not fit its config.json: 1 weight (KEY) is of another size ((32, 63), not (32, 64))"),
    ],
    ids=["nan", "infinite", "too large", "int8", "uint8", "float8", "missing", "size"],
)
def test_a_weight_of_the_encoder_is_named(form, value, says, tmp_path):
    path = saved(tmp_path, form, **{KEY: value})
    assert says.replace("KEY", KEY) in told(path)


def test_weights_unknown_inside_the_encoder_are_refused(tmp_path):
    positions = {
        f"encoder__layer__{n}__attention__self__distance_embedding__weight": torch.ones(9, 8) for n in range(3)
    }
    assert "do not fit its config.json: 3 weights (encoder.layer.0.attention.self.distance_embedding.weight, " in told(
        saved(tmp_path, "safetensors", **positions)
    )


def test_layers_that_were_not_asked_for_may_be_there(tmp_path):
    path = saved(tmp_path, "safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    assert build_encoder(path, layers=2).config.num_hidden_layers == 2
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    assert f"16 weights ({LAST}attention.output.LayerNorm.bias, " in told(path)


@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_the_weights_of_a_trained_head_are_told_in_one_line_and_those_of_a_language_model_are_not(
    family, tmp_path, caplog
):
    torch.manual_seed(0)
    config = AutoConfig.for_model(**tiny_config(family))
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "language")
    build_encoder(str(tmp_path / "language"))
    assert "not used" not in caplog.text
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    build_encoder(str(tmp_path))
    lines = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert len(lines) == 1
    assert re.search(r"\d weights? \(", lines[0])
    assert not any(part in lines[0] for part in ("encoder.layer", "embeddings."))
    caplog.clear()
    tiny_encoder(family).save_pretrained(tmp_path / "own")
    build_encoder(str(tmp_path / "own"))
    assert "not used" not in caplog.text


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.full((3,), float("inf")), "is NaN or infinite"),
        (torch.ones(3, dtype=torch.int64), "is of the type torch.int64"),
    ],
)
def test_a_weight_of_an_exit_is_named(value, says, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    state = load_file(tmp_path / "exits.safetensors")
    save_file({**state, "exits.1.classifier.3.bias": value}, tmp_path / "exits.safetensors")
    expected = rf"exits.safetensors: 1 weight \(exits.1.classifier.3.bias\) {says}"
    with pytest.raises(UserError, match=expected):
        MultiExitModel.from_pretrained(tmp_path)


def test_a_weight_of_a_teacher_is_named(tmp_path):
    torch.manual_seed(0)
    teacher = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**tiny_config("bert")))
    with torch.no_grad():
        teacher.classifier.weight[0, 0] = float("nan")
    teacher.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"teacher .*: 1 weight \(classifier.weight\) is NaN or infinite"):
        find_teacher(str(tmp_path)).build()
