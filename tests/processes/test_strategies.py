"""Which strategies there are: what the overlays say, and what is refused before training."""

from pathlib import Path

import pytest
import yaml
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from runs import experiment, run, write_config

from mebert.errors import UserError
from mebert.modules.checks import check_strategy
from mebert.runtime.patient_ddp import PatientDDP

OVERLAYS = Path(__file__).resolve().parents[2] / "configs/trainer"


@pytest.mark.parametrize("strategy", [FSDPStrategy(), ModelParallelStrategy()])
def test_weights_in_parts_are_refused(strategy):
    with pytest.raises(UserError, match=rf"trainer\.strategy {type(strategy).__name__} spreads the weights.*ddp\.yaml"):
        check_strategy(strategy)


def test_whole_weights_are_not():
    for strategy in (DDPStrategy(find_unused_parameters=True), PatientDDP(), SingleDeviceStrategy()):
        check_strategy(strategy)


def test_fsdp_on_the_command_line(here, capsys):
    write_config(here, experiment())
    assert run("fit", "--config", "tiny.yaml", "--trainer.strategy", "fsdp") == 2
    said = capsys.readouterr().err.strip()
    assert "fsdp" in said
    assert len(said.splitlines()) == 1
    assert not (here / "runs").exists()


@pytest.mark.parametrize("name", ["ddp", "nodes"])
def test_overlays_wait_longer_than_one_process_works_alone(name):
    strategy = yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text(encoding="utf-8"))["strategy"]
    assert strategy["class_path"] == f"{PatientDDP.__module__}.PatientDDP"
    assert PatientDDP()._timeout.total_seconds() == 7200
    assert strategy["init_args"] == {"timeout": "2:00:00"}
