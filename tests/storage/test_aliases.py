from importlib import import_module

import pytest
from jsonargparse._util import import_object

import mebert
from mebert.storage.aliases import MODULES, NAMES, find_moved
from mebert.storage.trusted_classes import imported_class

PUBLIC = [
    "mebert.checkpoint_io.WholeCheckpointIO",
    "mebert.classifier.EarlyExitClassifier",
    "mebert.curve.threshold_for_speedup",
    "mebert.data.CurriculumDataModule",
    "mebert.data.SyntheticCurriculumDataModule",
    "mebert.data.curriculum.CurriculumDataModule",
    "mebert.data.curriculum.CurriculumOrder",
    "mebert.data.synthetic_grammar.examples",
    "mebert.distillation.logit_distances",
    "mebert.entry.main",
    "mebert.flops.exit_flops",
    "mebert.indicators.normalised_entropy",
    "mebert.losses.exit_losses",
    "mebert.metrics.metric_value",
    "mebert.models.encoder.EncoderWalk",
    "mebert.models.load_policy",
    "mebert.modules.MultiExitModule.exit_loss",
    "mebert.modules.MultiExitModule.losses_of_exits",
    "mebert.ray_data.EarlyExitPredictor",
    "mebert.scoring.score_split",
    "mebert.strategies.PatientDDP",
    "mebert.temperature.fit_temperatures",
]
"""Paths that documentation, notebooks and configurations of 0.1.0 name."""


@pytest.mark.parametrize("path", [*PUBLIC, *NAMES])
def test_a_path_of_0_1_0_resolves(path):
    assert callable(import_object(path)), "as a class_path of a configuration"


@pytest.mark.parametrize(("old", "new"), MODULES.items())
def test_a_module_of_0_1_0_has_the_names_of_its_successor(old, new):
    successor = import_module(new)
    for name, value in vars(successor).items():
        if getattr(value, "__module__", None) == new:
            assert getattr(import_module(old), name) is value
    with pytest.raises(AttributeError, match="no_such"):
        _ = import_module(old).no_such


def test_a_file_may_name_a_class_by_its_old_path():
    path = "mebert.data.curriculum.CurriculumDataModule"
    assert imported_class(path, object, "it") is mebert.CurriculumDataModule
    assert find_moved("mebert.models.MultiExitModel") is None, "it has not moved"


def test_the_command_line_is_called_from_python_as_before(capsys):
    from mebert.cli import main

    assert main(["nonsense"]) == 2
    assert "there is no command 'nonsense'" in capsys.readouterr().err


def test_every_public_name_is_where_the_stub_says():
    for name in mebert.__all__:
        assert getattr(mebert, name) is not None
    assert set(dir(mebert)) == set(mebert.__all__)
