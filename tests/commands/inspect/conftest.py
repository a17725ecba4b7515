"""Small runs that are trained once, and saved models that belong to no run."""

from contextlib import chdir

import pytest
import torch
from runs import experiment, newest, run, write_config
from tiny import tiny_batch, tiny_model, words_tokenizer
from torch import nn

from mebert.models import PrototypeBank


@torch.no_grad()
def balance(model):
    """Let every answer of every exit be as likely, so that exits disagree about most texts."""
    batch = tiny_batch(64, 6, padded=False)
    logits = model(**batch).logits
    for index in range(model.num_exits):
        last = model.exit(index).classifier[3]
        spread = logits[index].std(0)
        last.weight /= spread.unsqueeze(1)
        last.bias.copy_((last.bias - logits[index].mean(0)) / spread)


def saved(folder, num_labels, policy=None, prototypes=True, **more):
    """A model folder of random weights with all that any policy reads."""
    model = tiny_model(num_labels=num_labels, pooling="mean", **more)
    torch.manual_seed(2)
    balance(model)
    if prototypes and num_labels > 1:
        model.prototypes = PrototypeBank(model.num_exits - 1, model.feature_size, num_labels, dim=7)
        model.prototypes.prototypes.normal_()
        model.prototypes.seen.fill_(True)
    model.exit_scorer = nn.Linear(model.feature_size, 1)
    model.save_pretrained(folder, words_tokenizer(), policy)
    return folder


def train(folder, module, **init_args):
    settings = experiment(module, **init_args)
    settings["trainer"]["max_epochs"] = 1
    settings["data"]["init_args"]["eval_samples"] = 60
    settings["exit_prediction"] = {"kind": "token"}
    settings["test_after_fit"] = False
    with chdir(folder):
        assert run("fit", "--config", str(write_config(folder, settings))) == 0
    return newest(folder)


@pytest.fixture(scope="session")
def proto_run(tmp_path_factory):
    """DE3-BERT with a token predictor, on pairs with three labels."""
    return train(tmp_path_factory.mktemp("proto"), "ProtoExitModule")


@pytest.fixture(scope="session")
def geep_run(tmp_path_factory):
    """GEEP with a token predictor and no prototypes."""
    return train(tmp_path_factory.mktemp("geep"), "GEEPModule", threshold=None)
