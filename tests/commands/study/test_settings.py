"""What a study's YAML may say, and which runs come of it."""

from pathlib import Path

import pytest

from mebert.commands.study.settings import Study, cells_of, select
from mebert.errors import UserError

GOOD = {
    "name": "s",
    "out": None,
    "base": {
        "model": {"class_path": "mebert.MultiExitModule", "learning_rate": 1.0, "pooling": "mean"},
        "data": {"class_path": "mebert.TextDataModule", "init_args": {"batch_size": 8}},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
    },
    "tasks": {
        "rte": {"data": {"task": "rte"}, "model": {"learning_rate": 2.0}, "trainer": {"max_epochs": 3}},
        "sst2": {"data": {"task": "sst2"}},
    },
    "recipes": {
        "joint": None,
        "slow": {"trainer": {"max_epochs": 9}, "tasks": {"rte": {"trainer": {"max_epochs": 20}}}},
        "ordered": {
            "data": {
                "class_path": "mebert.CurriculumDataModule",
                "difficulty": {"class_path": "mebert.curriculum.Loss"},
            }
        },
    },
    "seeds": [1, 2],
    "targets": [2.0, 1.0],
    "keep": "models",
}


def checked(**more):
    return Study.checked(**{**GOOD, **more})


def config_of(study, recipe, task, seed=1):
    (cell,) = select(cells_of(study), [f"recipe={recipe},task={task},seed={seed}"])
    return cell.config


def test_later_settings_win_and_the_rest_stays():
    study = checked()
    epochs = {r: [config_of(study, r, t)["trainer"]["max_epochs"] for t in GOOD["tasks"]] for r in GOOD["recipes"]}
    assert epochs == {"joint": [3, 2], "slow": [20, 9], "ordered": [3, 2]}
    config = config_of(study, "joint", "rte", seed=2)
    assert config["seed_everything"] == 2
    assert config["model"] == {
        "class_path": "mebert.MultiExitModule",
        "init_args": {"learning_rate": 2.0, "pooling": "mean"},
    }
    assert config["data"]["init_args"] == {"batch_size": 8, "task": "rte"}
    assert config["trainer"]["accelerator"] == "cpu"


def test_a_recipe_brings_its_data_module_and_keeps_the_common_arguments():
    data = config_of(checked(), "ordered", "rte")["data"]
    assert data["class_path"] == "mebert.CurriculumDataModule"
    difficulty = {"class_path": "mebert.curriculum.Loss"}
    assert data["init_args"] == {"batch_size": 8, "task": "rte", "difficulty": difficulty}


def test_an_object_of_another_class_replaces_the_whole_object():
    base = {**GOOD["base"], "data": {"class_path": "d", "pacing": {"class_path": "a", "init_args": {"until": 1}}}}
    study = checked(base=base, recipes={"r": {"data": {"pacing": {"class_path": "b"}}}})
    assert config_of(study, "r", "rte")["data"]["init_args"]["pacing"] == {"class_path": "b"}


def test_runs_come_seed_by_seed_each_in_its_folder():
    cells = cells_of(checked())
    assert len(cells) == 12
    assert [cell.seed for cell in cells] == [1] * 6 + [2] * 6
    assert len({cell.folder for cell in cells}) == 12
    assert cells[0].folder == Path("runs/studies/s/rte/joint/seed_1")
    trainer, experiment = cells[0].config["trainer"], cells[0].config["experiment"]
    assert Path(trainer["default_root_dir"]) / experiment == cells[0].folder


def test_only_takes_every_way_of_writing_it():
    cells = cells_of(checked())
    assert len(select(cells, None)) == 12
    assert {c.recipe for c in select(cells, ["recipe=joint,slow", "seed=1"])} == {"joint", "slow"}
    assert len(select(cells, ["recipe=joint", "recipe=slow", "task=rte"])) == 4
    for cell in cells:
        assert select(cells, [cell.only]) == [cell]


def test_a_grid_makes_every_combination_of_every_recipe():
    grid = {"model.learning_rate": [0.1, 0.2], "data.batch_size": [4]}
    study = checked(grid=grid)
    assert len(study.recipes) == 2 * len(GOOD["recipes"])
    config = config_of(study, "slow_learning_rate-0.2_batch_size-4", "rte")
    assert config["model"]["init_args"] == {"learning_rate": 0.2, "pooling": "mean"}, "over the task's own"
    assert (config["data"]["init_args"]["batch_size"], config["trainer"]["max_epochs"]) == (4, 20)
    alone = checked(recipes={"joint": None}, grid={"trainer.max_epochs": [1, 2]})
    assert list(alone.recipes) == ["max_epochs-1", "max_epochs-2"]
    assert [cell.config["trainer"]["max_epochs"] for cell in cells_of(alone) if cell.task == "rte"] == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"learning_rate": [1]}, "grid: 'learning_rate' is no setting of a section; write such as model.learning_rate"),
        ({"model.learning_rate": 1}, "grid.model.learning_rate must be a list of the values to try, got 1"),
        ({"model.learning_rate": []}, r"must be a list of the values to try, got \[\]"),
        ({"modle.learning_rate": [1]}, "grid.modle is not known; grid may have model, data, trainer"),
        ({"model.dropout": [0.1, 0.1]}, "two of its values make the same name, dropout-0.1"),
    ],
)
def test_a_grid_that_cannot_work(grid, message):
    with pytest.raises(UserError, match=message):
        checked(grid=grid)
