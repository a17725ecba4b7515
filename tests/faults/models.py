"""Encoders and saved models that are not there, are damaged, or do not fit."""

from __future__ import annotations

import torch
from faults.damage import gone, half, json_with, json_without, tensors_with, zero_bytes
from faults.fault import Fault
from faults.hub_server import CONFIG
from faults.world import ENCODER

from mebert import EarlyExitClassifier, MultiExitModel
from mebert.data.tokenised import load_tokenizer
from mebert.models import build_encoder

__all__ = ["FAULTS"]

RUN = "runs/tiny/version_0"
MODEL = f"{RUN}/model"


def open_model(path: str = MODEL) -> MultiExitModel:
    return MultiExitModel.from_pretrained(path)


def classifier(path: str = RUN, **settings: object) -> EarlyExitClassifier:
    return EarlyExitClassifier.from_pretrained(path, **settings)  # type: ignore[arg-type]


FAULTS = [
    Fault("an encoder that does not exist", lambda: build_encoder("no-such-encoder"), ("no-such-encoder",)),
    Fault(
        "an encoder's folder without config.json", lambda: build_encoder("tokenizer"), ("config.json", "'tokenizer'")
    ),
    Fault(
        "a broken config.json",
        lambda: build_encoder("encoder"),
        ("'encoder'", "line 1"),
        {"encoder/config.json": '{"model_type": "bert", '},
    ),
    Fault(
        "a config.json of no known model",
        lambda: build_encoder("encoder"),
        ("'encoder'",),
        {"encoder/config.json": '{"model_type": "bertie"}'},
    ),
    Fault(
        "a decoder in the place of an encoder",
        lambda: build_encoder("encoder"),
        ("'encoder'", "'gpt2'"),
        {"encoder/config.json": '{"model_type": "gpt2"}'},
    ),
    Fault(
        "an encoder without weights",
        lambda: build_encoder("encoder"),
        ("model.safetensors", "'encoder'"),
        {"encoder/config.json": CONFIG},
    ),
    Fault(
        "encoder weights that were cut off",
        lambda: build_encoder(MODEL),
        ("'runs/tiny/version_0/model'",),
        {f"{MODEL}/model.safetensors": half},
        run=True,
    ),
    Fault(
        "encoder weights of another size",
        lambda: build_encoder(MODEL),
        ("config.json", "'runs/tiny/version_0/model'"),
        {f"{MODEL}/config.json": json_with(hidden_size=32)},
        run=True,
    ),
    Fault(
        "encoder weights for fewer layers",
        lambda: build_encoder(MODEL),
        ("config.json", "'runs/tiny/version_0/model'"),
        {f"{MODEL}/config.json": json_with(num_hidden_layers=5)},
        run=True,
    ),
    Fault(
        "no model_type in encoder_config",
        lambda: build_encoder("x", {"hidden_size": 16}),
        ("encoder_config", "model_type"),
    ),
    Fault(
        "a word for a size in encoder_config",
        lambda: build_encoder("x", {**ENCODER, "hidden_size": "wide"}),
        ("encoder_config", "'hidden_size'", "got str (value: 'wide')"),
    ),
    Fault("a tokenizer that does not exist", lambda: load_tokenizer("no-such-tokenizer"), ("'no-such-tokenizer'",)),
    Fault(
        "a broken tokenizer.json",
        lambda: load_tokenizer("tokenizer"),
        ("'tokenizer'", "','", "line 101"),
        {"tokenizer/tokenizer.json": half},
    ),
    Fault(
        "a tokenizer of another vocabulary",
        "fit --config own.yaml --model.init_args.encoder_config.vocab_size 20",
        ("58 tokens", "vocabulary has 20", "data.tokenizer"),
    ),
    Fault("a model that does not exist", lambda: open_model("no-such-model"), ("'no-such-model'",)),
    Fault("a folder without exits", lambda: open_model("tokenizer"), ("exits.json", "tokenizer")),
    Fault(
        "a run that has no model yet", lambda: classifier(), ("exits.json",), {f"{MODEL}/exits.json": gone}, run=True
    ),
    Fault(
        "a broken exits.json",
        open_model,
        ("runs/tiny/version_0/model/exits.json", "line 1"),
        {f"{MODEL}/exits.json": '{"format": 1, '},
        run=True,
    ),
    Fault(
        "an exits.json that is a list",
        open_model,
        ("runs/tiny/version_0/model/exits.json",),
        {f"{MODEL}/exits.json": "[1]"},
        run=True,
    ),
    Fault(
        "an exits.json of a later version",
        open_model,
        ("runs/tiny/version_0/model/exits.json",),
        {f"{MODEL}/exits.json": json_with(format=99)},
        run=True,
    ),
    Fault(
        "an exits.json without its labels",
        open_model,
        ("exits.json", "'num_labels'"),
        {f"{MODEL}/exits.json": json_without("num_labels", "label_names")},
        run=True,
    ),
    Fault(
        "an exits.json for other labels",
        open_model,
        ("exits.json", "exits.safetensors"),
        {f"{MODEL}/exits.json": json_with(num_labels=2, label_names=["a", "b"])},
        run=True,
    ),
    Fault(
        "an exits.json for other exits",
        open_model,
        ("exits.json", "exits.safetensors"),
        {f"{MODEL}/exits.json": json_with(exit_layers=[1, 3])},
        run=True,
    ),
    Fault(
        "an exits.json with a word for a number",
        open_model,
        ("exits.json", "num_labels", "'three'"),
        {f"{MODEL}/exits.json": json_with(num_labels="three")},
        run=True,
    ),
    Fault(
        "a saved class that is not imported",
        open_model,
        ("'my.package.Model'",),
        {f"{MODEL}/exits.json": json_with(model="my.package.Model")},
        run=True,
    ),
    Fault(
        "a saved policy that is not imported",
        classifier,
        ("'my.Policy'",),
        {f"{MODEL}/exits.json": json_with(policy={"class_path": "my.Policy"})},
        run=True,
    ),
    Fault(
        "a saved policy with other settings",
        classifier,
        ("'mebert.policies.Entropy'", "got an unexpected keyword argument 'tau'"),
        {f"{MODEL}/exits.json": json_with(policy={"class_path": "mebert.policies.Entropy", "init_args": {"tau": 1}})},
        run=True,
    ),
    Fault(
        "a saved threshold that is out of range",
        classifier,
        ("Entropy", "got 7"),
        {
            f"{MODEL}/exits.json": json_with(
                policy={"class_path": "mebert.policies.Entropy", "init_args": {"threshold": 7}}
            )
        },
        run=True,
    ),
    Fault(
        "operating points that are none",
        classifier,
        ("exits.json", "'fast'"),
        {f"{MODEL}/exits.json": json_with(operating_points={"edr": {"fast": 0.5}})},
        run=True,
    ),
    Fault(
        "exits.safetensors that was cut off",
        open_model,
        ("'runs/tiny/version_0/model'",),
        {f"{MODEL}/exits.safetensors": half},
        run=True,
    ),
    Fault(
        "an empty exits.safetensors",
        open_model,
        ("'runs/tiny/version_0/model'",),
        {f"{MODEL}/exits.safetensors": zero_bytes},
        run=True,
    ),
    Fault("no exits.safetensors", open_model, ("exits.safetensors",), {f"{MODEL}/exits.safetensors": gone}, run=True),
    Fault(
        "a weight that is missing",
        open_model,
        ("exits.safetensors", "exits.json"),
        {f"{MODEL}/exits.safetensors": tensors_with(exits__0__classifier__3__weight=None)},
        run=True,
    ),
    Fault(
        "a weight that is not a number",
        open_model,
        ("exits.safetensors",),
        {f"{MODEL}/exits.safetensors": tensors_with(exits__0__classifier__3__bias=torch.full((3,), float("nan")))},
        run=True,
    ),
    Fault(
        "a model folder without its tokenizer",
        classifier,
        ("'runs/tiny/version_0/model'",),
        {f"{MODEL}/tokenizer.json": gone, f"{MODEL}/tokenizer_config.json": gone},
        run=True,
    ),
    Fault("an unknown device", lambda: classifier(device="gpu"), ("'gpu'",), run=True),
    Fault("an unknown precision", lambda: classifier(precision="float8"), ("precision", "got 'float8'"), run=True),
    Fault(
        "predict with a model folder as checkpoint",
        f"predict --config tiny.yaml --ckpt_path {MODEL}",
        ("--ckpt_path", "runs", "tiny"),
        run=True,
    ),
]
