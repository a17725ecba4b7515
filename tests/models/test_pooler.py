"""Exits that start from the encoder's pretrained pooler, against transformers' own; the layout of ElasticBERT."""

import json

import pytest
import torch
from runs import experiment, newest, run, write_config, write_rows
from safetensors.torch import load_file, save_file
from tiny import REVIEW_WORDS, quiet_trainer, save_encoder, save_tokenizer, tiny_batch, tiny_config
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, BertModel

import mebert
from mebert.cli.main import main
from mebert.data.tokenizers import load_tokenizer
from mebert.errors import UserError
from mebert.models import build_encoder
from mebert.models.pooler import stored_poolers


def save(folder, family="bert", **more):
    """A tiny encoder with a pooler that is no fresh one."""
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(**tiny_config(family, **more)))
    if (pooler := getattr(model, "pooler", None)) is not None:
        torch.nn.init.normal_(getattr(pooler, "dense", pooler).bias)
    model.save_pretrained(folder)
    return str(folder), model


def save_elasticbert(folder, layers=3):
    """Random weights in the layout of fnlp/elasticbert-base; and the same encoder as a BERT."""
    torch.manual_seed(0)
    bert = BertModel(AutoConfig.for_model(**tiny_config("bert", num_hidden_layers=layers)), add_pooling_layer=False)
    state = {f"elasticbert.{name}": value for name, value in bert.state_dict().items()}
    for n in range(layers):
        state[f"elasticbert.encoder.pooler.{n}.dense.weight"] = torch.randn(32, 32) / 6
        state[f"elasticbert.encoder.pooler.{n}.dense.bias"] = torch.randn(32)
    state["elasticbert.embeddings.position_ids"] = torch.arange(64).unsqueeze(0)
    state["cls.predictions.bias"] = torch.zeros(50)
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "pytorch_model.bin")
    own = {"model_type", "num_hidden_layers", *tiny_config("bert")}
    config = {name: value for name, value in bert.config.to_dict().items() if name in own} | {
        **{"architectures": ["ElasticBertForMaskedLM"], "model_type": "elasticbert", "layer_norm_eps": 1e-8},
        **{"max_output_layers": layers, "num_output_layers": layers, "position_embedding_type": "absolute"},
        **{"gradient_checkpointing": False, "transformers_version": "4.6.0.dev0", "use_cache": True},
    }
    (folder / "config.json").write_text(json.dumps(config))
    bert.config.layer_norm_eps = 1e-8
    return str(folder), BertModel(bert.config, add_pooling_layer=False), state, bert.state_dict()


@pytest.mark.parametrize("kind", [mebert.MultiExitModule, mebert.DeeBERTModule, mebert.PABEEModule, mebert.GPFEEModule])
def test_each_exit_starts_as_the_pooler(kind, tmp_path):
    path, theirs = save(tmp_path)
    module = kind(encoder=path, num_labels=3)
    if kind is mebert.GPFEEModule:  # whose code has poolers of its own
        assert not module.starts_from_pooler
        module = kind(encoder=path, num_labels=3, pretrained_pooler=True)
    model = module.eval().model
    batch = tiny_batch()
    hidden = theirs.eval()(**batch, output_hidden_states=True).hidden_states
    for index, layer in enumerate(hidden[1:]):
        head = model.exit(index)
        feature = head.pool(layer, batch["attention_mask"])
        torch.testing.assert_close(head.classifier[1](head.classifier[0](feature)), theirs.pooler(layer))


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_one_exit_is_hugging_faces_classifier(family, tmp_path):
    save(tmp_path, family)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3).eval()
    module = mebert.MultiExitModule(encoder=str(tmp_path), num_labels=3, exit_layers=[theirs.config.num_hidden_layers])
    module.model.exit(0).classifier[3].load_state_dict(theirs.classifier.state_dict())
    batch = tiny_batch()
    logits = module.eval().model.last_exit(**batch)
    torch.testing.assert_close(logits, theirs(**batch).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "settings", "says"),
    [
        ("bert", {"pooling": "mean"}, "pooling is mean, and a pooler reads .CLS.: take pooling cls"),
        ("bert", {"head": "linear"}, "head is linear, which has no layer for it: take mlp or shared"),
        ("electra", {}, "encoders of the family electra have no pooler"),
        ("bert", {"encoder_config": tiny_config("bert")}, "encoder_config builds an encoder with random weights"),
        ("own", {}, "the weights of encoder .* have no pooler"),
        ("narrow", {}, "the pooler of encoder .* is not of its width, 32"),
    ],
)
def test_exits_that_cannot_start_from_it(family, settings, says, tmp_path):
    path, _ = save(tmp_path, "bert" if family in ("own", "narrow") else family)
    if family in ("own", "narrow"):
        state = load_file(tmp_path / "model.safetensors")
        more = {"pooler.dense.weight": torch.ones(8, 32)} if family == "narrow" else {}
        kept = {name: v for name, v in state.items() if family == "narrow" or not name.startswith("pooler.")}
        save_file(kept | more, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=f"^pretrained_pooler is true, but {says}; leave pretrained_pooler null to start at random"
    ):
        mebert.MultiExitModule(encoder=path, pretrained_pooler=True, **settings)
    assert not mebert.MultiExitModule(encoder=path, **settings).starts_from_pooler


def test_random_exits_on_request(tmp_path):
    path, theirs = save(tmp_path)
    heads = mebert.MultiExitModule(encoder=path, pretrained_pooler=False).model.exits
    assert all(not torch.equal(head.classifier[0].weight, theirs.pooler.dense.weight) for head in heads)


def test_deebert_copies_no_trained_pooler_over_the_pretrained_one(tmp_path):
    from modules.recipes import Watch, loader

    path, theirs = save(tmp_path)
    module, watch = mebert.DeeBERTModule(encoder=path, num_labels=3, stage1_epochs=1), Watch()
    quiet_trainer(watch, max_epochs=2).fit(module, loader())
    first = watch.before[3]["exits.0.classifier.0.weight"]
    assert torch.equal(first, theirs.pooler.dense.weight), "stage 2 begins with the pretrained one"
    assert not torch.equal(watch.before[3]["exits.2.classifier.0.weight"], first), (
        "which stage 1 trained in the last exit"
    )


def test_elasticberts_layout_opens_with_a_pooler_a_layer(tmp_path):
    save_tokenizer(tmp_path, REVIEW_WORDS)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')  # names no class
    path, theirs, state, weights = save_elasticbert(tmp_path)
    tokenizer = load_tokenizer(path)
    assert tokenizer("good film")["input_ids"][0] == tokenizer.cls_token_id == 2
    theirs.load_state_dict(weights)
    module = mebert.ElasticBERTModule(encoder=path, exit_layers=[1, 3], pretrained_pooler=True).eval()
    assert module.model.encoder.config.model_type == "bert"
    batch = tiny_batch()
    hidden = theirs.eval()(**batch, output_hidden_states=True).hidden_states
    for index, depth in enumerate((1, 3)):
        own = [state[f"elasticbert.encoder.pooler.{depth - 1}.dense.{part}"] for part in ("weight", "bias")]
        head = module.model.exit(index)
        found = head.classifier[1](head.classifier[0](module.model.step(module.model.start(**batch), index)[2]))
        torch.testing.assert_close(found, torch.tanh(torch.nn.functional.linear(hidden[depth][:, 0], *own)))
    shared = mebert.PABEEModule(encoder=path, num_labels=3).model
    assert torch.equal(shared.exit(0).classifier[0].weight, stored_poolers(path)[2]["weight"]), "the deepest layer's"
    module.model.save_pretrained(tmp_path / "saved")
    assert AutoModel.from_pretrained(tmp_path / "saved").config.model_type == "bert"
    assert build_encoder(path, layers=2).config.num_hidden_layers == 2


@pytest.mark.slow
def test_elasticbert_from_the_command_line(here, hf_cache):
    """As it is published: the tokenizer's configuration names no class."""
    save_tokenizer(here / "elastic", REVIEW_WORDS)
    (here / "elastic" / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    path = save_elasticbert(here / "elastic")[0]
    rows = [{"text": f"{word} film", "label": label} for label, word in enumerate(["good", "bad"])] * 8
    files = {f"{name}_file": write_rows(here / f"{name}.csv", rows) for name in ("train", "validation", "test")}
    settings = experiment("ElasticBERTModule", encoder=path, encoder_config=None)
    settings["data"] = {"class_path": "mebert.TextDataModule", "init_args": {**files, "tokenizer": path}}
    settings["data"]["init_args"] |= {"max_length": 16}
    settings["trainer"]["max_epochs"] = 1
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    assert main(["predict", str(newest(here)), "--text", "good film"]) == 0


def test_the_start_is_told_once(tmp_path, caplog):
    path = save_encoder(tmp_path)
    save(tmp_path)
    from modules.recipes import loader

    quiet_trainer().fit(mebert.MultiExitModule(encoder=path, num_labels=3), loader())
    lines = [record.getMessage() for record in caplog.records if "pooler" in record.getMessage()]
    assert lines == ["exits start from the encoder's pretrained pooler (model.pretrained_pooler)"]
