"""ExitAccuracy against metrics of the whole split computed at once."""

import math
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from sklearn import metrics as sk

from mebert.callbacks import ExitAccuracy


class Module:
    """Keeps what is logged."""

    def __init__(self):
        self.logged = {}

    def log(self, name, value, **_):
        self.logged[name] = float(value)

    def log_dict(self, values, **_):
        self.logged |= {name: float(value) for name, value in values.items()}


def trainer_of(metrics=("acc",), names=("val",), sanity=False):
    data = SimpleNamespace(metrics=metrics, validation_names=list(names), test_names=["test"])
    return SimpleNamespace(sanity_checking=sanity, datamodule=data, current_epoch=2)


def run_split(callback, trainer, module, logits, labels, index, loader=0, queries=None):
    """Validate batches of 7 rows."""
    for start in range(0, len(labels), 7):
        rows = slice(start, start + 7)
        outputs = {"logits": logits[:, rows], "labels": labels[rows], "index": index[rows]}
        batch = {} if queries is None else {"query": queries[rows]}
        callback.on_validation_batch_end(trainer, module, outputs, batch, start // 7, loader)


def logged(metrics, flush_every, *split, queries=None):
    """What a validation of one split logs."""
    trainer, module, callback = trainer_of(metrics), Module(), ExitAccuracy(flush_every)
    run_split(callback, trainer, module, *split, queries=queries)
    callback.on_validation_epoch_end(trainer, module)
    return module.logged


@pytest.mark.parametrize("flush_every", [1, 2, 100])
def test_classes_and_padding(flush_every):
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 40, 2), torch.randint(0, 2, (40,))
    index = torch.arange(40)
    index[-5:] = -1
    found = logged(("acc", "f1", "matthews"), flush_every, logits, labels, index)
    predictions, y = logits.argmax(-1)[:, :35], labels[:35]
    scores = {"acc": sk.accuracy_score, "f1": sk.f1_score, "matthews": sk.matthews_corrcoef}
    for e, (name, score) in product(range(3), scores.items()):
        assert found[f"val/exit_0{e + 1}/{name}"] == pytest.approx(score(y, predictions[e]))
    accuracies = [found[f"val/exit_0{e}/acc"] for e in (1, 2, 3)]
    assert found["val/score"] == found["val/mean/acc"] == pytest.approx(sum(accuracies) / 3)


def test_regression():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 30, 1), torch.randn(30)
    found = logged(("pearson", "spearman"), 100, logits, labels, torch.arange(30))
    expected = torch.corrcoef(torch.stack([logits[1, :, 0], labels]))[0, 1]
    assert found["val/exit_02/pearson"] == pytest.approx(float(expected), abs=1e-5)
    assert -1 <= found["val/exit_02/spearman"] <= 1


@pytest.mark.parametrize(("metric", "classes"), [("pearson", 1), ("spearman", 1), ("map", 2)])
def test_a_metric_without_a_value(metric, classes):
    """NaN in the table, in the mean and in the score by which a checkpoint is chosen; and a warning says so."""
    logits, labels = torch.randn(2, 20, classes), torch.arange(20.0)
    queries = torch.full((20,), -1 if metric == "map" else 0)
    logits[0] = 0.1
    labels = labels.long() % 2 if metric == "map" else labels
    with pytest.warns(UserWarning, match=rf"epoch 3: {metric} has no value at exit 1\b.* val/score is NaN and the"):
        found = logged((metric,), 100, logits, labels, torch.arange(20), queries=queries)
    assert math.isnan(found[f"val/exit_01/{metric}"])
    assert math.isnan(found["val/score"])


@pytest.mark.parametrize("flush_every", [1, 100])
def test_answers_ranked_within_their_questions(flush_every):
    torch.manual_seed(0)
    logits, labels, queries = torch.randn(2, 40, 2), torch.randint(0, 2, (40,)), torch.arange(40) % 6 - 1
    index = torch.arange(40)
    index[-5:] = -1
    found = logged(("map", "acc", "p_at_1"), flush_every, logits, labels, index, queries=queries)
    probability = logits.softmax(-1)[1, :35, 1]
    average = [
        sk.average_precision_score(labels[:35][members], probability[members])
        for q in range(5)
        if labels[:35][members := queries[:35] == q].any()
    ]
    assert found["val/exit_02/map"] == pytest.approx(sum(average) / len(average))
    assert found["val/exit_02/acc"] == pytest.approx(sk.accuracy_score(labels[:35], logits[1, :35].argmax(-1)))
    assert found["val/score"] == found["val/mean/map"]


def test_training_rows_need_no_question_to_rank():
    trainer, module, callback = trainer_of(("map", "acc")), Module(), ExitAccuracy()
    outputs = {"logits": torch.eye(2)[None], "labels": torch.arange(2), "index": torch.arange(2)}
    callback.on_train_batch_end(trainer, module, outputs, {"query": torch.tensor([-1, -1])}, 0)
    callback.on_train_epoch_end(trainer, module)
    assert module.logged == {"train/exit_01/acc": 1.0, "train/mean/acc": 1.0}


def test_each_split_has_its_prefix_and_the_first_one_the_score():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 20, 3), torch.randint(0, 3, (20,))
    trainer, module, callback = trainer_of(names=("val", "val_mismatched")), Module(), ExitAccuracy()
    run_split(callback, trainer, module, logits, labels, torch.arange(20), loader=0)
    run_split(callback, trainer, module, logits.flip(1), labels, torch.arange(20), loader=1)
    callback.on_validation_epoch_end(trainer, module)
    assert module.logged["val/score"] == module.logged["val/mean/acc"] != module.logged["val_mismatched/mean/acc"]


def test_epochs_start_afresh_and_sanity_checks_do_not_count():
    trainer, module, callback = trainer_of(), Module(), ExitAccuracy()
    right = torch.eye(3)[None]
    labels, index = torch.arange(3), torch.arange(3)
    sanity = trainer_of(sanity=True)
    run_split(callback, sanity, module, right, labels.flip(0), index)
    callback.on_validation_epoch_end(sanity, module)
    assert module.logged == {}
    run_split(callback, trainer, module, right, (labels + 1) % 3, index)
    callback.on_validation_epoch_end(trainer, module)
    assert module.logged["val/exit_01/acc"] == 0.0
    run_split(callback, trainer, module, right, labels, index)
    callback.on_validation_epoch_end(trainer, module)
    assert module.logged["val/exit_01/acc"] == 1.0


def test_validation_inside_an_epoch_does_not_touch_training_metrics():
    trainer, module, callback = trainer_of(), Module(), ExitAccuracy()
    right = {"logits": torch.eye(3)[None], "labels": torch.arange(3), "index": torch.arange(3)}
    wrong = right | {"labels": (torch.arange(3) + 1) % 3}
    callback.on_train_batch_end(trainer, module, right, {}, 0)
    callback.on_validation_batch_end(trainer, module, wrong, {}, 0)
    callback.on_validation_epoch_end(trainer, module)
    assert "train/exit_01/acc" not in module.logged
    callback.on_train_batch_end(trainer, module, wrong, {}, 1)
    callback.on_train_epoch_end(trainer, module)
    assert module.logged["train/exit_01/acc"] == 0.5
