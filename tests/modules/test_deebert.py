"""DeeBERT's two stages in one run; what it shares with FastBERT is tested there."""

from __future__ import annotations

import copy

import lightning as L
import pytest
import torch
from runs import experiment, newest, run, write_config
from tiny import tiny_batch, tiny_config
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mebert.errors import UserError
from mebert.models import MultiExitModel, model_inputs
from mebert.modules import DeeBERTModule
from mebert.policies import Entropy


def make(**settings):
    torch.manual_seed(0)
    settings = {"encoder_config": tiny_config("bert"), "num_labels": 3, "learning_rate": 1e-3, **settings}
    return DeeBERTModule(**{"student_learning_rate": 1e-2, **settings})


def loader(batches=3):
    rows = []
    for i in range(batches * 6):
        one = {**tiny_batch(1, padded=False, seed=i), "labels": torch.tensor([i % 3]), "index": torch.tensor([i])}
        rows.append({name: values[0] for name, values in one.items()})
    return DataLoader(rows, batch_size=6)


def trainer(path, **settings):
    return L.Trainer(
        **{
            "default_root_dir": path, "accelerator": "cpu", "max_epochs": 2, "logger": False,
            "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, **settings,
        }
    )  # fmt: skip


class Weights(L.Callback):
    """The weights before every forward pass, and after the last."""

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.states.append(copy.deepcopy(module.model.state_dict()))


def test_stage_2_is_the_sum_of_the_earlier_exits_losses():
    module, batch = make(dropout=0.0).train(), {**tiny_batch(6), "labels": torch.arange(6) % 3}
    outputs = module(**model_inputs(batch))  # no trainer: stage 2
    plain = module.model(**model_inputs(batch))
    torch.testing.assert_close(outputs.logits, plain.logits)
    expected = sum(F.cross_entropy(plain.logits[i], batch["labels"]) for i in range(2))
    loss = module.compute_loss(outputs, batch)["loss"]
    torch.testing.assert_close(loss, expected)
    loss.backward()
    trained = {n for n, p in module.model.named_parameters() if p.grad is not None}
    assert trained == {n for n, _ in module.model.named_parameters() if n.startswith(("exits.0.", "exits.1."))}
    found = {n: p.grad.clone() for n, p in module.model.named_parameters() if n in trained}
    module.zero_grad()
    expected.backward()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, dict(module.model.named_parameters())[name].grad)


@pytest.mark.parametrize("head", ["mlp", "linear"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_stage_2_begins_with_the_last_exits_pooler(tmp_path, head, accumulate):
    module, watch = make(stage1_epochs=1, head=head), Weights()
    begin = copy.deepcopy(module.model.state_dict())
    trainer(tmp_path, callbacks=[watch], accumulate_grad_batches=accumulate).fit(module, loader(4))
    stage1, stage2 = watch.states[3], watch.states[4:]
    for name, value in stage1.items():
        if name.startswith(("exits.0.", "exits.1.")):
            assert torch.equal(value, begin[name]), "stage 1 leaves the earlier exits alone"
    for state in stage2:
        for name, value in state.items():
            if not name.startswith(("exits.0.", "exits.1.")):
                assert torch.equal(value, stage1[name]), "stage 2 leaves the rest alone"
    pooler = "exits.{}.classifier.0.weight"
    if head == "mlp":
        assert not torch.equal(stage1[pooler.format(2)], begin[pooler.format(2)])
        # The copy is taken before the first step of stage 2; with Adam no weight moves further than the rate.
        moved = (stage2[0][pooler.format(0)] - stage1[pooler.format(2)]).abs().max()
        assert moved <= 1.01e-2
        assert not torch.allclose(stage1[pooler.format(0)], stage1[pooler.format(2)], atol=2e-2)
        last = watch.states[-1]
        assert not torch.equal(last[pooler.format(0)], last[pooler.format(1)]), "each exit goes on with its own"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"stage1_epochs": 0}, "stage1_epochs must be at least 1, got 0"),
        ({"exit_layers": [3]}, "DeeBERTModule needs at least 2 exits"),
        ({"exit_weights": "depth"}, r"exit_weights \(depth\) has no place in DeeBERT's loss"),
        ({"head": "shared"}, "head shared has no place in DeeBERT"),
    ],
)
def test_settings_out_of_range_are_named(settings, text):
    with pytest.raises(UserError, match=text):
        make(**settings)


def test_both_stages_through_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment()
    settings["model"]["class_path"] = "mebert.DeeBERTModule"
    del settings["model"]["init_args"]["prototype_dim"]
    settings["model"]["init_args"] |= {"stage1_epochs": 1, "student_learning_rate": 1e-2}
    write_config(tmp_path, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    folder = newest(tmp_path)
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 1
    assert MultiExitModel.from_pretrained(folder / "model").num_exits == 3
    config = str(folder / "config.yaml")
    assert run("predict", "--config", config, "--ckpt_path", "best", "--predictions.path", "out.csv") == 0
    assert isinstance(make().policy, Entropy)


def test_resumed_in_either_stage_it_ends_the_same(tmp_path):
    def fit(path, ckpt_path=None):
        module = make(stage1_epochs=1, dropout=0.0)
        keep = L.pytorch.callbacks.ModelCheckpoint(tmp_path / path, filename="{epoch}", save_top_k=-1)
        run_of = trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=[keep])
        run_of.fit(module, loader(), ckpt_path=ckpt_path, weights_only=True)
        return module.model.state_dict()

    whole = fit("whole")
    for epoch in (0, 1):  # the last epoch of stage 1, the first of stage 2
        again = fit(f"from_{epoch}", str(tmp_path / f"whole/epoch={epoch}.ckpt"))
        for name, value in whole.items():
            assert torch.equal(again[name], value), name
