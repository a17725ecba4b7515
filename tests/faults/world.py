"""What many faults need: a tiny configuration, a tokenizer, a trained run; made once and copied."""

from __future__ import annotations

from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from runs import experiment, run

from mebert.data.synthetic import synthetic_tokenizer

__all__ = ["ENCODER", "Templates", "make_templates", "own_files", "settings"]

ENCODER: dict[str, Any] = experiment()["model"]["init_args"]["encoder_config"]


@dataclass(frozen=True)
class Templates:
    """Folders to copy.

    Attributes:
        common: `tiny.yaml` (the built-in task), `own.yaml` (rows.csv), `tokenizer/`, `rows.csv`.
        run: A tested run of tiny.yaml.
    """

    common: Path
    run: Path


def settings() -> dict[str, Any]:
    """The tiny experiment, smaller still: one short epoch."""
    found = experiment()
    found["trainer"]["max_epochs"] = 1
    found["data"]["init_args"] |= {"train_samples": 48, "eval_samples": 24}
    found["curve"] |= {"wall_samples": 0, "points": [1.2]}
    return found


def own_files() -> dict[str, Any]:
    """The same with rows.csv in the place of the built-in task."""
    files = {f"{name}_file": "rows.csv" for name in ("train", "validation", "test")}
    init = {**files, "tokenizer": "tokenizer", "max_length": 32, "batch_size": 4}
    return {**settings(), "data": {"class_path": "mebert.TextDataModule", "init_args": init}}


def make_templates(folder: Path) -> Templates:
    """Train the run (about 2 s) and write the rest.

    Args:
        folder: An empty one.
    """
    common = folder / "common"
    common.mkdir()
    (common / "tiny.yaml").write_text(yaml.safe_dump(settings()), encoding="utf-8")
    (common / "own.yaml").write_text(yaml.safe_dump(own_files()), encoding="utf-8")
    (common / "rows.csv").write_text("text,label\n" + "a cat,good\na dog,bad\n" * 6, encoding="utf-8")
    synthetic_tokenizer().save_pretrained(common / "tokenizer")
    with chdir(folder):
        assert run("fit", "--config", "common/tiny.yaml") == 0
    return Templates(common, folder / "runs/tiny/version_0")
