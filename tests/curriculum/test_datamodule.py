"""Curriculum data modules in a real training: where the scores come from, and what they leave alone."""

import copy

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from tiny import quiet_trainer, tiny_config

from mebert import CurriculumDataModule, MultiExitModule, SyntheticCurriculumDataModule
from mebert.curriculum import ExitDepth, KnownDifficulty, Length, Loss, Margin, RootCompetence
from mebert.curriculum.measures import DataMeasure
from mebert.errors import UserError


def data_of(cls=SyntheticCurriculumDataModule, **settings):
    small = {"train_samples": 50, "eval_samples": 10} if cls is SyntheticCurriculumDataModule else {}
    return cls(**{**small, "batch_size": 8, "eval_batch_size": 8, **settings})


def fit(data, *callbacks, dropout=0.1, num_labels=3, vocab_size=80, **settings):
    """Train a tiny module and return it."""
    torch.manual_seed(0)
    config = tiny_config("bert", vocab_size=vocab_size, max_position_embeddings=256)
    module = MultiExitModule(encoder_config=config, num_labels=num_labels, dropout=dropout, learning_rate=1e-3)
    quiet_trainer(*callbacks, **{"max_epochs": 2, "limit_val_batches": 0, **settings}).fit(module, datamodule=data)
    return module


class Steps(L.Callback):
    """Keeps what the module returned in every step, and the rows."""

    def __init__(self):
        self.outputs = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        kept = {name: outputs[name].clone() for name in ("logits", "labels", "index")}
        self.outputs.append((trainer.current_epoch, kept))

    def rows(self, epoch):
        return [row for number, outputs in self.outputs if number == epoch for row in outputs["index"].tolist()]


def expected_scores(steps, measure, epochs, smoothing=0.0):
    """By row: the measure of each step's logits, newer ones over older ones; of a row twice in a step, the last."""
    scores = {}
    for epoch, outputs in steps.outputs:
        values = measure.of_logits(outputs["logits"], outputs["labels"]).tolist()
        step = dict(zip(outputs["index"].tolist(), values, strict=True))
        if epoch in epochs:
            scores |= {r: smoothing * scores[r] + (1 - smoothing) * v if r in scores else v for r, v in step.items()}
    return np.array([scores.get(row, np.nan) for row in range(50)])


@pytest.mark.parametrize("measure", [Loss(), Margin("last"), ExitDepth()])
@pytest.mark.parametrize(("smoothing", "pacing"), [(0.0, None), (0.75, None), (0.75, RootCompetence(1.0, 0.3))])
def test_scores_of_training_are_the_measure_of_the_logits_of_its_steps(measure, smoothing, pacing):
    data, steps = data_of(difficulty=measure, smoothing=smoothing, pacing=pacing, initial=Length()), Steps()
    fit(data, steps, max_epochs=3)
    known = expected_scores(steps, measure, {0, 1}, smoothing)
    np.testing.assert_allclose(data.table.in_use, known, rtol=1e-5, atol=1e-6)  # the last epoch was ordered by them
    data.state_dict()  # takes in what the last epoch brought
    np.testing.assert_allclose(
        data.table.latest, expected_scores(steps, measure, {0, 1, 2}, smoothing), rtol=1e-5, atol=1e-6
    )


def test_scores_do_not_depend_on_how_often_they_are_saved():
    class Save(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.datamodule.state_dict()

    tables = []
    for callbacks in ([], [Save()]):
        data = data_of(difficulty=Loss(), smoothing=0.5, pacing=RootCompetence(1.0, 0.2), initial=Length())
        fit(data, *callbacks)
        tables.append(data.state_dict()["latest"])
    assert torch.equal(*tables)


def test_an_epoch_is_ordered_by_the_scores_of_the_one_before():
    data, steps = data_of(difficulty=Loss(), within_class=False), Steps()
    fit(data, steps)
    scores = expected_scores(steps, Loss(), {0})
    assert sorted(steps.rows(0)) == sorted(steps.rows(1)) == list(range(50))
    assert steps.rows(0) != sorted(steps.rows(0))
    assert (np.diff(scores[steps.rows(1)]) >= 0).all()


def test_the_first_epoch_is_ordered_by_the_initial_measure():
    data, steps = data_of(difficulty=Loss(), initial=KnownDifficulty(), direction="hard_first"), Steps()
    fit(data, steps, max_epochs=1)
    difficulty = data.split("train").difficulty
    assert (np.diff(difficulty[steps.rows(0)]) <= 0).all()
    assert len(set(difficulty)) > 1


def test_an_epoch_cut_short_leaves_the_other_rows_unknown():
    data, steps = data_of(difficulty=Loss()), Steps()
    fit(data, steps, limit_train_batches=2)
    seen = steps.rows(0)
    assert len(seen) == 16
    assert set(np.flatnonzero(~np.isnan(data.table.in_use))) == set(seen)


class AtEpochStart(L.Callback):
    """Keeps a copy of the module as it ends the second epoch; a pass leaves every part in its mode."""

    def on_train_start(self, trainer, pl_module):
        pl_module.model.encoder.embeddings.eval()
        self.modes = [part.training for part in pl_module.modules()]

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.module = copy.deepcopy(pl_module).eval()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        assert [part.training for part in pl_module.modules()] == self.modes
        assert torch.is_grad_enabled()


def test_scores_by_inference_are_those_of_the_weights_at_the_start_of_the_epoch():
    data, start = data_of(difficulty=Margin(), scores_from="inference"), AtEpochStart()
    fit(data, start, max_epochs=3)
    split = data.split("train")
    with torch.no_grad():
        for row in range(len(split)):
            batch = data.collate_for()([split[row]])
            score = Margin().of_logits(start.module.exit_logits(batch), batch["labels"])
            assert data.table.in_use[row] == pytest.approx(float(score), abs=1e-5)


def test_scoring_again_leaves_the_training_as_it_is():
    """In an order that heeds no scores, the weights are the same to the last bit, dropout and all."""
    trained = []
    for source in ("training", "inference"):
        data = data_of(difficulty=Loss(), scores_from=source, direction="random")
        trained.append(fit(data, max_epochs=3).state_dict())
        assert data.table.in_use is not None
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


@pytest.fixture
def regression(tmp_path, tokenizer_folder):
    rows = ["text,label", *(f"{'a cat sat ' * (i % 3 + 1)},{i / 4}" for i in range(12))]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(rows), encoding="utf-8")
    files = dict.fromkeys(("train_file", "validation_file"), str(file))
    return {"cls": CurriculumDataModule, "regression": True, "tokenizer": tokenizer_folder, **files}


def test_a_measure_of_classes_does_not_fit_a_regression(regression):
    with pytest.raises(UserError, match="difficulty ExitDepth needs classes, but this task is a regression; use Loss"):
        fit(data_of(difficulty=ExitDepth(), **regression), num_labels=1)


def test_a_regression_is_ordered_by_its_squared_error(regression):
    data, steps = data_of(difficulty=Loss(), **regression), Steps()
    fit(data, steps, num_labels=1)
    errors = {}
    for epoch, outputs in steps.outputs:
        if epoch == 0:
            squared = (outputs["logits"].squeeze(-1) - outputs["labels"]).square().mean(0)
            errors |= dict(zip(outputs["index"].tolist(), squared.tolist(), strict=True))
    np.testing.assert_allclose(data.table.in_use, [errors[row] for row in range(12)], rtol=1e-5)


@pytest.mark.parametrize("numbers", [np.ones(3), np.full(50, np.inf), np.full((50, 1), 1.0)])
def test_a_measure_that_does_not_rank_the_rows_is_told(numbers):
    class Odd(DataMeasure):
        def of_split(self, split):
            return numbers

    with pytest.raises(UserError, match="difficulty Odd must give a finite number for each of 50 training rows"):
        fit(data_of(difficulty=Odd()))


def test_a_checkpoint_of_other_data_is_told():
    data = data_of(difficulty=Loss())
    fit(data, max_epochs=1)
    state = data.state_dict()
    other = data_of(difficulty=Loss(), train_samples=60)
    other.load_state_dict(state)  # before it knows its data, as where a checkpoint is read first
    with pytest.raises(UserError, match="has 50 training rows, but this data has 60"):
        fit(other)


def test_inference_needs_a_module_that_gives_the_logits_of_its_exits():
    class Plain(BoringModel):
        def training_step(self, batch):
            return self.layer(torch.ones(32)).sum()

    trainer = quiet_trainer(max_epochs=2, limit_val_batches=0)
    with pytest.raises(UserError, match="needs a module with `exit_logits`, got Plain"):
        trainer.fit(Plain(), datamodule=data_of(difficulty=Loss(), scores_from="inference"))
