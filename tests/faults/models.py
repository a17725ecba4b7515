"""Encoders and saved models that are not there, are damaged, or do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from faults.fault import ENCODER, RUN, Content, Fault, change_json, change_tensors, half
from faults.hub_server import CONFIG

from mebert import EarlyExitClassifier, MultiExitModel, MultiExitModule
from mebert.data.tokenizers import load_tokenizer
from mebert.models import build_encoder

MODEL = f"{RUN}/model"


def classifier(path: str = RUN, **settings: Any) -> EarlyExitClassifier:
    return EarlyExitClassifier.from_pretrained(path, **settings)


def open_model(path: str = MODEL) -> MultiExitModel:
    return MultiExitModel.from_pretrained(path)


def saved(what: str, says: str, do: Callable[[], object] = open_model, **files: Content) -> Fault:
    """A model folder with other files, which are named by what stands before and after their dot."""
    return Fault(what, do, says, {f"{MODEL}/{name.replace('__', '.')}": content for name, content in files.items()})


def exits(what: str, says: str, content: Content = "", do: Callable[[], object] = open_model, **values: Any) -> Fault:
    """A model folder with another `exits.json`, or with other values in it."""
    return saved(what, says, do, exits__json=content or change_json(**values))


def weights(what: str, says: str, content: Content) -> Fault:
    """A model folder with other weights of the exits."""
    return saved(what, says, open_model, exits__safetensors=content)


def policy(what: str, says: str, name: str, **init_args: Any) -> Fault:
    """A model folder with another policy."""
    return exits(what, says, do=classifier, policy={"class_path": name, "init_args": init_args})


def encoder(what: str, config: Content, says: str) -> Fault:
    """An encoder's folder with this `config.json`, and without weights."""
    return Fault(what, lambda: build_encoder("encoder"), says, {"encoder/config.json": config})


def own_encoder() -> object:
    return build_encoder(MODEL)


NAN = torch.full((3,), float("nan"))

FAULTS = [
    Fault("an encoder that does not exist", lambda: build_encoder("no-such-encoder"), "encoder 'no-such-encoder': the"),
    Fault("an encoder's folder without config.json", lambda: build_encoder("tokenizer"), "Unrecognized model in"),
    Fault(
        "a pretrained pooler of an encoder from scratch",
        lambda: MultiExitModule(encoder_config=ENCODER, pretrained_pooler=True),
        ("pretrained_pooler is true, but encoder_config builds an encoder with random weights", "leave"),
    ),
    encoder("a broken config.json", '{"model_type": "bert", ', "config.json is not valid JSON"),
    encoder("a decoder in the place of an encoder", '{"model_type": "gpt2"}', "is of the family 'gpt2'"),
    encoder("an encoder without weights", CONFIG, "no file named model.safetensors"),
    saved("encoder weights that were cut off", "incomplete metadata", own_encoder, model__safetensors=half),
    saved(
        "encoder weights of another size", "((16,), not (32,))", own_encoder, config__json=change_json(hidden_size=32)
    ),
    saved(
        "encoder weights for fewer layers",
        "32 weights (encoder.layer.3.attention.output.LayerNorm.bias, ",
        own_encoder,
        config__json=change_json(num_hidden_layers=5),
    ),
    Fault("no model_type in encoder_config", lambda: build_encoder("x", {"hidden_size": 16}), "needs the key model_ty"),
    Fault(
        "a word for a size in encoder_config",
        lambda: build_encoder("x", {**ENCODER, "hidden_size": "wide"}),
        "got str (value: 'wide')",
    ),
    Fault("a tokenizer that does not exist", lambda: load_tokenizer("no-tokenizer"), "the tokenizer 'no-tokenizer'"),
    Fault(
        "a broken tokenizer.json",
        lambda: load_tokenizer("tokenizer"),
        "JSONDecodeError",
        {"tokenizer/tokenizer.json": half},
    ),
    Fault(
        "a tokenizer of another vocabulary",
        "fit --config own.yaml --model.init_args.encoder_config.vocab_size 20",
        "58 tokens (the last one: 'will'), but the encoder's vocabulary has 20",
    ),
    Fault("a model that does not exist", lambda: open_model("no-such-model"), "cannot load model 'no-such-model'"),
    Fault("a folder without exits", lambda: open_model("tokenizer"), "it has no exits.json; fit writes"),
    exits("a broken exits.json", "is not valid JSON", '{"format": 1, '),
    exits("an exits.json that is a list", "holds no settings, but [1]", "[1]"),
    exits("an exits.json of a later version", "has format 99", format=99),
    exits("an exits.json without its labels", "lacks the key 'num_labels'", num_labels=None, label_names=None),
    exits("an exits.json with a label twice", "label_names must be distinct, got a, b, a", label_names=["a", "b", "a"]),
    exits("an exits.json with one text for its labels", "label_names: ", label_names="abc"),
    exits("an exits.json with numbers for labels", "label_names.0: ", label_names=[0, 1, 2]),
    exits("an exits.json for other exits", "does not fit exits.safetensors", exit_layers=[1, 3]),
    exits("an exits.json with a word for a number", "valid integer, got 'three'", num_labels="three"),
    exits("a saved class that is not imported", "of the class 'my.package.Model'", model="my.package.Model"),
    policy("a saved policy with other settings", "unexpected keyword argument 'tau'", "mebert.policies.Entropy", tau=1),
    policy("a saved threshold that is out of range", "[0, 1], got 7", "mebert.policies.Entropy", threshold=7),
    exits("bounds of scores that cross", "score_bounds at 0.9 must be", score_bounds={"0.9": [[0, 1], [2, 1]]}),
    exits("operating points that are none", "operating_points.edr.fast", operating_points={"edr": {"fast": 0.5}}),
    weights("exits.safetensors that was cut off", "incomplete metadata", half),
    weights("no exits.safetensors", "has no exits.safetensors", Path.unlink),
    weights("a weight that is missing", "missing exits.0", change_tensors(exits__0__classifier__3__weight=None)),
    weights("a weight that is not a number", "is NaN or infinite", change_tensors(exits__0__classifier__3__bias=NAN)),
    saved("a decoder", "is_decoder is True", own_encoder, config__json=change_json(is_decoder=True)),
    saved(
        "relative positions",
        "position_embedding_type is 'relative_key'",
        own_encoder,
        config__json=change_json(position_embedding_type="relative_key"),
    ),
    saved(
        "a model folder without its tokenizer",
        "there are no files of one",
        classifier,
        tokenizer__json=Path.unlink,
        tokenizer_config__json=Path.unlink,
    ),
    Fault("an unknown device", lambda: classifier(device="gpu"), "device 'gpu' cannot be used"),
    Fault("an unknown precision", lambda: classifier(precision="float8"), "int8, got 'float8'"),
]
