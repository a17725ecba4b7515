"""Two machines, simulated by two launches on this one: by torchrun's agents, and by the variables that SLURM sets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes.process_groups import free_port
from runs import QUIET, experiment, newest, run, write_config

OVERLAY = Path(__file__).resolve().parents[2] / "configs/trainer/nodes.yaml"


def by_torchrun(node, port):
    agent = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node)]
    return [*agent, "--master-addr", "127.0.0.1", "--master-port", str(port), "-m", "mebert"], {}


def by_slurm(node, port):
    job = {
        "JOB_ID": 4242,
        "JOB_NAME": "mebert",
        "NTASKS": 2,
        "NNODES": 2,
        "NTASKS_PER_NODE": 1,
        "NODELIST": "localhost",
    }
    given = job | {"PROCID": node, "NODEID": node, "LOCALID": 0}
    variables = {f"SLURM_{name}": str(value) for name, value in given.items()}
    return ["-m", "mebert"], variables | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [by_torchrun, by_slurm])
def test_two_machines_train_and_test_one_model(here, launcher):
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    settings["data"]["init_args"] |= {"batch_size": 8, "eval_batch_size": 4}
    settings["curve"]["wall_samples"] = 0
    write_config(here, settings)
    port, nodes = free_port(), []
    for node in (0, 1):
        command, variables = launcher(node, port)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        nodes.append(
            subprocess.Popen(
                [sys.executable, *command, "fit", "--config", "tiny.yaml", "--trainer", str(OVERLAY), *QUIET],
                cwd=here, env=environment | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
    said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    assert sum(text.count("Operating points") for text in said) == 1, "only one process reports"
    assert [path.name for path in (here / "runs/tiny").iterdir()] == ["version_0"]
    config = yaml.safe_load((newest(here) / "config.yaml").read_text())
    assert config["trainer"]["num_nodes"] == 2
    on_two = json.loads((newest(here) / "evaluation.json").read_text())
    best = str(newest(here) / "checkpoints/best.ckpt")
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", best) == 0
    alone = json.loads((newest(here) / "evaluation.json").read_text())
    assert on_two["samples"] == alone["samples"] == 41
    for mine, its in zip(alone["exits"], on_two["exits"], strict=True):
        assert its == pytest.approx(mine, abs=1e-5)
