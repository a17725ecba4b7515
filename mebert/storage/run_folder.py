"""What a run is on disk: one folder with all that it leaves behind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning import Trainer

CONFIG, EVALUATION, OUTPUTS, METRICS = "config.yaml", "evaluation.json", "outputs.safetensors", "metrics.csv"


@dataclass(frozen=True)
class RunFolder:
    """The files of a run, in `<save_dir>/<experiment>/<version>`."""

    path: Path

    @classmethod
    def of_checkpoint(cls, checkpoint: str | Path) -> RunFolder:
        """The run of `<run>/checkpoints/<name>.ckpt`."""
        return cls(Path(checkpoint).parent.parent)

    @classmethod
    def of_model(cls, folder: str | Path) -> RunFolder:
        """The run of its model folder, `<run>/model`."""
        return cls(Path(folder).parent)

    @property
    def config(self) -> Path:
        """The whole configuration, as `fit --config` takes it."""
        return self.path / CONFIG

    @property
    def evaluation(self) -> Path:
        """What `test` measured."""
        return self.path / EVALUATION

    @property
    def outputs(self) -> Path:
        """What every exit gave for every test row."""
        return self.path / OUTPUTS

    @property
    def metrics(self) -> Path:
        """What training logged, where the logger is CSV's."""
        return self.path / METRICS

    @property
    def model(self) -> Path:
        """The folder of the best model, as `MultiExitModel.from_pretrained` opens it."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self, name: str = "best") -> Path:
        """The checkpoint `best`, `last`, ..."""
        return self.checkpoints / f"{name}.ckpt"


def newest_run(runs: Iterable[Path]) -> Path:
    """The newest of an experiment's runs: by number (`version_10`), else, with ids of W&B's, by the files' age."""
    found = list(runs)
    if all(re.fullmatch(r"version_(\d+)", path.name) for path in found):
        return max(found, key=lambda path: int(path.name.removeprefix("version_")))

    def age(path: Path) -> tuple[int, str]:
        run = RunFolder(path)
        files = [*run.checkpoints.glob("*.ckpt"), run.evaluation, run.config]
        return max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0), path.name

    return max(found, key=age)


def run_folder(trainer: Trainer) -> Path:
    """The folder of a trainer's run, where `ModelCheckpoint` puts `checkpoints/`: that of its first logger.

    Without a logger it is `default_root_dir`. On other ranks than 0 a logger may number its versions differently.
    """
    logger = trainer.logger
    root = Path(trainer.default_root_dir)
    if logger is None:
        return root
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(logger.save_dir or root) / str(logger.name) / version
