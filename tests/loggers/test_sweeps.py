"""The sweep files, as W&B's agent would start them."""

from __future__ import annotations

import itertools
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from runs import experiment, write_config
from terminal import at_a_terminal
from wandb.sdk.launch.sweeps.utils import load_sweep_config
from wandb.wandb_agent import Agent
from wandb_file import offline_runs

import mebert
from mebert.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
KEYS = {"program", "project", "name", "method", "metric", "run_cap", "parameters", "command"}  # of W&B's documentation
LIMITS = {"log_uniform_values": {"min", "max"}, "uniform": {"min", "max"}, "int_uniform": {"min", "max"}}


def agents_command(sweep: dict[str, Any], values: dict[str, Any], monkeypatch) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment that W&B's own agent makes of a sweep and a choice of values."""
    started = {}

    class Process:
        def __init__(self, command, env, forward_signals):
            started.update(command=command, env=env)

    monkeypatch.setattr("wandb.wandb_agent.AgentProcess", Process)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("WANDB_RUN_ID", "set by the agent")  # so that it is taken away again
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "set by the agent")
    agent = Agent(api=None, queue=None, sweep_id="sweep1")
    agent._sweep_command = list(sweep["command"])
    args = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"type": "run", "run_id": "run1", "program": sweep["program"], "args": args})
    return started["command"], started["env"]


def corners(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Choices of values that have every listed value and both ends of every range."""
    ends = [
        p["values"] if "values" in p else [p["value"]] if "value" in p else [p["min"], p["max"]]
        for p in parameters.values()
    ]
    longest = max(map(len, ends))
    choices = zip(*(itertools.islice(itertools.cycle(values), longest) for values in ends), strict=True)
    return [dict(zip(parameters, choice, strict=True)) for choice in choices]


def test_there_are_sweeps():
    methods = {yaml.safe_load(path.read_text())["method"] for path in SWEEPS}
    assert methods == {"bayes", "grid"}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_form(path):
    sweep = load_sweep_config(str(path))
    assert sweep is not None
    assert set(sweep) <= KEYS
    assert sweep["metric"] == {"name": "best/val_auc", "goal": "maximize"}
    for name, parameter in sweep["parameters"].items():
        if "distribution" in parameter:
            assert set(parameter) == {"distribution", *LIMITS[parameter["distribution"]]}, name
            assert 0 < parameter["min"] < parameter["max"]
            assert sweep["method"] == "bayes", "a grid has values alone"
        else:
            assert len({"values", "value"} & set(parameter)) == len(parameter) == 1, name
    assert f"wandb sweep configs/sweeps/{path.name}" in path.read_text()


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_choices_are_commands_that_parse(path, here, monkeypatch, capsys):
    (here / "configs").symlink_to(ROOT / "configs")
    sweep = load_sweep_config(str(path))
    assert sweep is not None
    choices = corners(sweep["parameters"])
    for values in (choices[0], choices[-1]):
        command, _ = agents_command(sweep, values, monkeypatch)
        assert command[:5] == ["/usr/bin/env", "python", "-m", "mebert", "fit"]
        with pytest.raises(SystemExit) as stop:
            main([*command[4:], "--print_config"])
        printed = capsys.readouterr()
        assert stop.value.code == 0, printed.err
        config = yaml.safe_load(printed.out)
        for name, value in values.items():
            found = config
            for part in name.split("."):
                found = found[part]
            assert found == value or found["class_path"] == value, name


def test_recipes_are_there():
    sweep = load_sweep_config(str(ROOT / "configs" / "sweeps" / "recipes.yaml"))
    assert sweep is not None
    for name in sweep["parameters"]["model"]["values"]:
        assert issubclass(getattr(mebert, name.removeprefix("mebert.")), mebert.MultiExitModule)


@pytest.fixture
def agents_run(here, monkeypatch):
    """The agent's command line and environment, where the tiny task stands under the name of the sweep's; values."""
    sweep = load_sweep_config(str(ROOT / "configs" / "sweeps" / "de3_area.yaml"))
    assert sweep is not None
    (here / "configs" / "logger").mkdir(parents=True)
    (here / "configs" / "logger" / "wandb.yaml").symlink_to(ROOT / "configs" / "logger" / "wandb.yaml")
    settings = experiment()
    settings["trainer"] |= {"max_epochs": 1, "enable_progress_bar": False}
    (here / "configs" / "de3").mkdir()
    write_config(here / "configs" / "de3", settings, "minilm_sst2.yaml")
    values = corners(sweep["parameters"])[0]
    return *agents_command(sweep, values, monkeypatch), values


def check_run(folder: Path, values: dict[str, Any]) -> None:
    """What a run of the agent has told W&B."""
    (found,) = offline_runs(folder / "runs")
    assert (found.run.run_id, found.run.sweep_id) == ("run1", "sweep1")
    assert found.summary["best/val_auc"] == found.values("val/auc")[-1][1]
    for name, value in values.items():
        assert found.config[name] == value
    assert found.config["config"]["model"]["init_args"]["dar"] == "hinge"
    assert not [name for name in found.summary if name.startswith("test")], "a search does not look at test data"


def test_a_run_of_the_agent(agents_run, tmp_path, monkeypatch):
    """What follows `python -m mebert`, with the agent's environment, in this process."""
    command, environment, values = agents_run
    for name in [name for name in environment if name.startswith("WANDB_")]:
        monkeypatch.setenv(name, environment[name])
    wandb.teardown()  # it reads the environment when it is set up
    try:
        assert main(command[4:]) == 0
        check_run(tmp_path, values)
    finally:
        monkeypatch.undo()
        wandb.teardown()


@pytest.mark.slow
def test_a_run_of_the_agent_at_a_terminal(agents_run, tmp_path):
    """Its very command line in a process of its own, and without an account."""
    command, environment, values = agents_run
    environment = {name: value for name, value in environment.items() if not name.startswith("WANDB_MODE")}
    environment |= {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    code, out = at_a_terminal(command, tmp_path, environment, timeout=200)
    assert code == 0, out
    assert len(re.findall(r"wandb sync ", out)) == 1
    check_run(tmp_path, values)
