"""Encoders and saved models that are not there, are damaged, or do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from faults.fault import ENCODER, RUN, Content, Fault, change_json, change_tensors, half
from faults.hub_server import CONFIG

from mebert import EarlyExitClassifier, MultiExitModel
from mebert.data.tokenised import load_tokenizer
from mebert.models import build_encoder

__all__ = ["FAULTS"]

MODEL = f"{RUN}/model"


def open_model(path: str = MODEL) -> MultiExitModel:
    return MultiExitModel.from_pretrained(path)


def classifier(path: str = RUN, **settings: object) -> EarlyExitClassifier:
    return EarlyExitClassifier.from_pretrained(path, **settings)  # type: ignore[arg-type]


def own_encoder() -> object:
    return build_encoder(MODEL)


def saved(what: str, do: Callable[[], object], name: str, content: Content) -> Fault:
    """A model folder with one other file."""
    return Fault(what, do, MODEL, {f"{MODEL}/{name}": content})


def exits_json(what: str, content: Content, says: str = "exits.json", do: Callable[[], object] = open_model) -> Fault:
    """A model folder with another `exits.json`."""
    return Fault(what, do, says, {f"{MODEL}/exits.json": content})


def encoder(what: str, config: Content, says: str) -> Fault:
    """An encoder's folder with this `config.json`, and without weights."""
    return Fault(what, lambda: build_encoder("encoder"), says, {"encoder/config.json": config})


FAULTS = [
    Fault("an encoder that does not exist", lambda: build_encoder("no-such-encoder"), "no-such-encoder"),
    Fault("an encoder's folder without config.json", lambda: build_encoder("tokenizer"), "config.json"),
    encoder("a broken config.json", '{"model_type": "bert", ', "'encoder'"),
    encoder("a config.json of no known model", '{"model_type": "bertie"}', "'encoder'"),
    encoder("a decoder in the place of an encoder", '{"model_type": "gpt2"}', "'encoder'"),
    encoder("an encoder without weights", CONFIG, "model.safetensors"),
    saved("encoder weights that were cut off", own_encoder, "model.safetensors", half),
    saved("encoder weights of another size", own_encoder, "config.json", change_json(hidden_size=32)),
    saved("encoder weights for fewer layers", own_encoder, "config.json", change_json(num_hidden_layers=5)),
    Fault("no model_type in encoder_config", lambda: build_encoder("x", {"hidden_size": 16}), "encoder_config"),
    Fault(
        "a word for a size in encoder_config",
        lambda: build_encoder("x", {**ENCODER, "hidden_size": "wide"}),
        "got str (value: 'wide')",
    ),
    Fault("a tokenizer that does not exist", lambda: load_tokenizer("no-such-tokenizer"), "'no-such-tokenizer'"),
    Fault(
        "a broken tokenizer.json",
        lambda: load_tokenizer("tokenizer"),
        "'tokenizer'",
        {"tokenizer/tokenizer.json": half},
    ),
    Fault(
        "a tokenizer of another vocabulary",
        "fit --config own.yaml --model.init_args.encoder_config.vocab_size 20",
        "vocabulary has 20",
    ),
    Fault("a model that does not exist", lambda: open_model("no-such-model"), "'no-such-model'"),
    Fault("a folder without exits", lambda: open_model("tokenizer"), "exits.json"),
    exits_json("a broken exits.json", '{"format": 1, '),
    exits_json("an exits.json that is a list", "[1]"),
    exits_json("an exits.json of a later version", change_json(format=99)),
    exits_json("an exits.json without its labels", change_json(num_labels=None, label_names=None), "num_labels"),
    exits_json(
        "an exits.json for other labels", change_json(num_labels=2, label_names=["a", "b"]), "exits.safetensors"
    ),
    exits_json("an exits.json with a word for a number", change_json(num_labels="three"), "num_labels"),
    exits_json(
        "a saved policy that is not imported",
        change_json(policy={"class_path": "my.Policy"}),
        "'my.Policy'",
        do=classifier,
    ),
    exits_json(
        "a saved policy with other settings",
        change_json(policy={"class_path": "mebert.policies.Entropy", "init_args": {"tau": 1}}),
        "got an unexpected keyword argument 'tau'",
        do=classifier,
    ),
    exits_json(
        "a saved threshold that is out of range",
        change_json(policy={"class_path": "mebert.policies.Entropy", "init_args": {"threshold": 7}}),
        "Entropy",
        do=classifier,
    ),
    exits_json("operating points that are none", change_json(operating_points={"edr": {"fast": 0.5}}), do=classifier),
    saved("exits.safetensors that was cut off", open_model, "exits.safetensors", half),
    saved("no exits.safetensors", open_model, "exits.safetensors", Path.unlink),
    saved(
        "a weight that is missing",
        open_model,
        "exits.safetensors",
        change_tensors(exits__0__classifier__3__weight=None),
    ),
    saved(
        "a weight that is not a number",
        open_model,
        "exits.safetensors",
        change_tensors(exits__0__classifier__3__bias=torch.full((3,), float("nan"))),
    ),
    Fault(
        "a model folder without its tokenizer",
        classifier,
        "'runs/tiny/version_0/model'",
        {f"{MODEL}/tokenizer.json": Path.unlink, f"{MODEL}/tokenizer_config.json": Path.unlink},
    ),
    Fault("an unknown device", lambda: classifier(device="gpu"), "'gpu'"),
    Fault("an unknown precision", lambda: classifier(precision="float8"), "got 'float8'"),
    Fault(
        "predict with a model folder as checkpoint", f"predict --config tiny.yaml --ckpt_path {MODEL}", "--ckpt_path"
    ),
]
