"""Cross-review: who judges whom, and what is kept for the next run."""

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from tiny import quiet_trainer, tiny_config

from mebert import CurriculumDistillModule, MultiExitModule, SyntheticCurriculumDataModule
from mebert.curriculum import CrossReview, Length, Loss, Margin, cross_review
from mebert.data.datamodule import SplitDataModule
from mebert.errors import UserError

ROWS = 44


def data_of(review, **settings):
    sizes = {"train_samples": ROWS, "eval_samples": 8, "batch_size": 4, "eval_batch_size": 8}
    return SyntheticCurriculumDataModule(**{"difficulty": review, **sizes, **settings})


def module_of(cls=MultiExitModule, **settings):
    torch.manual_seed(0)
    config = tiny_config("bert", vocab_size=80)
    return cls(**{"encoder_config": config, "num_labels": 3, "dropout": 0.1, "learning_rate": 1e-3, **settings})


def fit(data, module=None, **trainer):
    module = module_of() if module is None else module
    torch.manual_seed(1)
    quiet_trainer(limit_val_batches=0, **trainer).fit(module, datamodule=data)
    return module


@pytest.fixture
def known_reviews(monkeypatch):
    """Teachers that give row i of the split the score i + 1000 * (their number), and note their rows."""
    parts = []

    def review(self, split, part, rest, data, trainer, text):
        parts.append(part.tolist())
        return rest + 1000.0 * (len(parts) - 1)

    monkeypatch.setattr(CrossReview, "_review", review)
    return parts


@pytest.mark.parametrize("teachers", [2, 5])
def test_a_row_is_judged_by_the_mean_of_the_teachers_that_have_not_seen_it(known_reviews, teachers):
    data = data_of(CrossReview(teachers=teachers))
    fit(data)
    assert sorted(row for part in known_reviews for row in part) == list(range(ROWS))
    sizes = [len(part) for part in known_reviews]
    assert len(sizes) == teachers
    assert max(sizes) - min(sizes) <= 1
    scores = data.current_difficulty(0)
    for own, part in enumerate(known_reviews):
        others = [number for number in range(teachers) if number != own]
        assert scores[part].tolist() == pytest.approx([row + 1000 * np.mean(others) for row in part])


@pytest.mark.parametrize("score", [None, Loss("last")], ids=["margin", "loss"])
def test_real_teachers_learn_from_their_part_alone_and_judge_the_rest(score):
    made = []

    class Noted(MultiExitModule):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.rows, self.begin = [], {name: value.clone() for name, value in self.state_dict().items()}
            made.append(self)

        def training_step(self, batch, batch_idx):
            self.rows += batch["index"].tolist()
            return super().training_step(batch, batch_idx)

    data = data_of(CrossReview(teachers=3, epochs=2, score=score))
    fit(data, module_of(Noted))
    teachers = made[1:]
    assert len(teachers) == 3
    assert sorted(row for teacher in teachers for row in teacher.rows) == sorted([*range(ROWS)] * 2), "2 epochs"
    assert not set(teachers[0].rows) & {*teachers[1].rows, *teachers[2].rows}
    for teacher in teachers:
        teacher.eval()
        assert any(not torch.equal(teacher.begin[name], value) for name, value in teacher.state_dict().items())
    split, measure = data.split("train"), score or Margin()
    assert split.index.tolist() == list(range(ROWS))
    for row in range(ROWS):
        batch = data.collate_for()([split[row]])
        strangers = [teacher for teacher in teachers if row not in teacher.rows]
        assert len(strangers) == 2
        with torch.no_grad():
            judged = [float(measure.of_logits(teacher.exit_logits(batch), batch["labels"])) for teacher in strangers]
        assert data.current_difficulty(0)[row] == pytest.approx(np.mean(judged), abs=1e-5)


def test_it_may_order_the_first_epoch_of_a_measure_of_the_model(known_reviews):
    data = data_of(Loss(), initial=CrossReview(teachers=2))
    fit(data, max_epochs=1)
    assert len(known_reviews) == 2, "once, and not in every process's setup again"
    for own, part in enumerate(known_reviews):
        assert data.current_difficulty(0)[part].tolist() == [row + 1000 * (1 - own) for row in part]


def test_teachers_have_no_teacher_of_their_own():
    module = module_of(CurriculumDistillModule, teacher="a/teacher")
    assert cross_review._settings(module)["teacher"] is None
    assert module.hparams["teacher"] == "a/teacher"


def test_a_second_run_trains_no_teachers_and_ends_with_the_same_weights(monkeypatch, cache):
    first_data = data_of(CrossReview(teachers=2))
    first = fit(first_data, max_epochs=2)
    (file,) = cache.glob("cross_review-*")
    np.testing.assert_array_equal(np.load(file), first_data.current_difficulty(0))
    monkeypatch.setattr(CrossReview, "_review", None)
    second_data = data_of(CrossReview(teachers=2))
    second = fit(second_data, max_epochs=2)
    np.testing.assert_array_equal(second_data.current_difficulty(0), first_data.current_difficulty(0))
    assert all(torch.equal(second.state_dict()[name], value) for name, value in first.state_dict().items())
    assert [path.name for path in cache.iterdir()] == [file.name], "nothing unfinished is left"


def test_other_data_or_settings_have_scores_of_their_own(known_reviews, cache):
    reviews = [{}, {"teachers": 2}, {"epochs": 2}, {"seed": 1}, {"score": Loss("last")}]
    variants = [(CrossReview(**given), {}, {}) for given in reviews]
    variants += [(CrossReview(), given, {}) for given in ({"train_samples": ROWS - 1}, {"batch_size": 8})]
    variants += [(CrossReview(), {}, given) for given in ({"learning_rate": 2e-3}, {"cls": CurriculumDistillModule})]
    for number, (review, data, module) in enumerate(variants, start=1):
        fit(data_of(review, **data), module_of(**module))
        assert len(list(cache.glob("cross_review-*"))) == number, (data, module)
    # What does not concern the teachers changes nothing; neither does saying the default.
    trained = len(known_reviews)
    same = {"eval_batch_size": 2, "direction": "hard_first", "initial": Length()}
    fit(data_of(CrossReview(score=Margin()), **same), max_epochs=2)
    assert len(known_reviews) == trained


def test_more_teachers_than_rows_are_told():
    with pytest.raises(UserError, match="3 training rows cannot be shared by 4 teachers"):
        fit(data_of(CrossReview(teachers=4), train_samples=3))


def test_without_a_training_there_are_no_scores():
    data = data_of(CrossReview())
    with pytest.raises(UserError, match="CrossReview trains teachers, which needs a trainer"):
        data.setup("fit")


def test_lightning_does_not_wait_for_other_processes_at_the_data_of_a_teacher():
    """At `prepare_data` of its own it does, for ever: one process trains the teachers."""
    assert not is_overridden("prepare_data", SplitDataModule(4, 4, True, None, 0, 0))
