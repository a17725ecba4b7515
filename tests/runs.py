"""A tiny experiment on the built-in task, and ways to run it through the real command line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from lightning.pytorch.cli import LightningCLI

from mebert.cli.main import main

QUIET = ["--trainer.enable_progress_bar", "false"]


# What a recipe of a tiny run is given beyond its defaults.
OWN_SETTINGS: dict[str, dict[str, Any]] = {
    "ProtoExitModule": {"prototype_dim": 8},
    "DeeBERTModule": {"stage1_epochs": 1},
    "FastBERTModule": {"stage1_epochs": 1},
}


def experiment(recipe: str = "ProtoExitModule", **init_args: Any) -> dict[str, Any]:
    """The settings of a run of a few seconds: 3 layers of width 16, 96 training examples, dropout off."""
    return {
        "experiment": "tiny",
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": 1,
            "precision": "32-true",
            "log_every_n_steps": 1,
        },
        "model": {
            "class_path": recipe if "." in recipe else f"mebert.{recipe}",
            "init_args": {
                "encoder_config": {
                    "model_type": "bert",
                    "hidden_size": 16,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 2,
                    "intermediate_size": 32,
                    "vocab_size": 80,
                    "max_position_embeddings": 64,
                },
                "learning_rate": 3e-3,
                "dropout": 0.0,
                **OWN_SETTINGS.get(recipe, {}),
                **init_args,
            },
        },
        "data": {
            "class_path": "mebert.SyntheticEntailmentDataModule",
            "init_args": {"train_samples": 96, "eval_samples": 41, "batch_size": 16, "eval_batch_size": 8},
        },
        "curve": {"wall_samples": 16, "wall_budget": 0.1, "points": [1.2, 1.5, 2.0]},
        "last_checkpoint": {"keep": True},  # tests go on from it
    }


def write_config(folder: Path, settings: dict[str, Any] | None = None, name: str = "tiny.yaml") -> Path:
    """The settings as a YAML file."""
    path = folder / name
    path.write_text(yaml.safe_dump(settings or experiment()), encoding="utf-8")
    return path


def run(*args: str) -> int:
    """The command line in this process, without progress bar; only the parser of this subcommand is made."""
    every = LightningCLI.subcommands()
    own = {name: given for name, given in every.items() if name == args[0]} or every
    with patch.object(LightningCLI, "subcommands", staticmethod(lambda: own)):
        return main([*args, *QUIET])


def run_process(*args: str, cwd: Path, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """`python -m mebert` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "mebert", *args]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def newest(folder: Path, experiment: str = "tiny") -> Path:
    return max((folder / "runs" / experiment).iterdir(), key=lambda path: int(path.name.removeprefix("version_")))


def read_csv(path: Path | str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write rows with the columns of the first one, in the format that the name says; returns the path."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), dialect="excel-tab" if path.suffix == ".tsv" else "excel")
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


def text_experiment(folder: Path, splits: dict[str, list[dict[str, Any]]], words: list[str], **data: Any) -> Any:
    """The settings of a MultiExitModule on own rows by the name of their split, with a tokenizer of these words."""
    from tiny import save_tokenizer

    settings = experiment("MultiExitModule")
    own = {f"{name}_file": write_rows(folder / f"{name}.csv", rows) for name, rows in splits.items()}
    own |= {"tokenizer": save_tokenizer(folder / "tokenizer", words), "max_length": 32}
    own |= {"batch_size": 16, "eval_batch_size": 8, **data}
    settings["data"] = {"class_path": "mebert.TextDataModule", "init_args": own}
    return settings


def train_tiny(folder: Path) -> str:
    """Train `experiment()` in a new folder, as `tiny.yaml` there; returns what `fit` printed."""
    folder.mkdir()
    write_config(folder)
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        assert run("fit", "--config", "tiny.yaml") == 0
    return printed.getvalue()
