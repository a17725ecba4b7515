"""What a run is on disk: one folder with all that it leaves behind; and what a name on the command line stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mebert.errors import UserError
from mebert.storage.hub_folder import model_folder
from mebert.storage.model_folder import saved_model_folder

if TYPE_CHECKING:
    from lightning import Trainer

CONFIG, EVALUATION, OUTPUTS, METRICS = "config.yaml", "evaluation.json", "outputs.safetensors", "metrics.csv"
EXPORTED = "exported"


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
    def exported(self) -> Path:
        """Where `export` writes the model for ONNX Runtime, unless told otherwise."""
        return self.path / EXPORTED

    @property
    def metrics(self) -> Path:
        """What training logged, where the logger is CSV's."""
        return self.path / METRICS

    @property
    def files(self) -> list[Path]:
        """The single files above, as far as they are there."""
        return [path for path in (self.config, self.evaluation, self.outputs, self.metrics) if path.is_file()]

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


@dataclass(frozen=True)
class NamedModel:
    """What the first argument of a command names.

    Attributes:
        name: As the user gave it.
        model: The folder or Hub id that holds the exits; None: a run that has saved none, or an encoder without exits.
        run: The run that it belongs to, one with a `config.yaml`; None: a model alone.
        checkpoint: The run's best checkpoint, or the one that was named; None: there is none.
    """

    name: str
    model: str | None
    run: RunFolder | None
    checkpoint: Path | None

    @property
    def on_hub(self) -> bool:
        """Whether it is a Hub id."""
        return self.model is not None and not Path(self.model).exists()

    @property
    def saved(self) -> str:
        """The folder that holds the exits, of a Hub id one of the cache; a UserError where there is none."""
        if self.model is None:
            saved = "it has no folder model with exits, as fit writes at its end" if self.run else "it holds no exits"
            raise UserError(f"{self.name}: {saved}; give a run, its folder model, or a Hub id of such a folder")
        return model_folder(self.model) if self.on_hub else self.model


def export_folder(model: str | Path) -> Path | None:
    """Where the export of a model folder belongs: in its run, else in the folder itself; None for a Hub id."""
    if not Path(model).is_dir():
        return None
    run = RunFolder.of_model(model)
    return run.exported if run.config.is_file() else Path(model) / EXPORTED


def find_model(name: str | Path) -> NamedModel:
    """The model of a run, an experiment (its newest training), a model folder, a checkpoint or a Hub id.

    A Hub id may have a revision behind it, `user/name@v1.0`.

    Raises:
        UserError: There is no such file, folder or id.
    """
    given, path = str(name), Path(name)
    if path.is_file():
        if path.suffix != ".ckpt":
            raise UserError(f"{given} is a file; give a run, a model folder or a Hub id first")
        run = _with_config(path.absolute().parent.parent)
        folder = None if run is None else saved_model_folder(run.path)
        return NamedModel(given, folder, run, path)
    looks_like_path = path.suffix == ".ckpt" or given.startswith((".", "/", "~")) or given.count("/") > 1
    if not path.is_dir() and looks_like_path:
        raise UserError(f"{given}: no such file or folder; give a run, a model folder or a Hub id")
    folder = saved_model_folder(path if path.is_dir() else given)
    run = None
    if path.is_dir():
        run = _with_config(path) or (_with_config(path.parent) if path.absolute().name == "model" else None)
        if folder is None and run is None and (inner := [found.parent for found in path.glob(f"*/{CONFIG}")]):
            trained = [one for one in inner if RunFolder(one).model.is_dir() or RunFolder(one).checkpoints.is_dir()]
            return find_model(newest_run(trained or inner))  # tests and predictions have folders, too
    best = None if run is None else run.checkpoint()
    return NamedModel(given, folder, run, best if best is not None and best.is_file() else None)


def _with_config(path: Path) -> RunFolder | None:
    run = RunFolder(path)
    return run if run.config.is_file() else None


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


def claim_version(experiment: Path) -> Path:
    """Make the next folder `version_<n>` of an experiment; it is this process's own, since only one can make it."""
    experiment.mkdir(parents=True, exist_ok=True)
    while True:
        found = (re.fullmatch(r"version_(\d+)", path.name) for path in experiment.iterdir())
        folder = experiment / f"version_{max((int(match[1]) + 1 for match in found if match), default=0)}"
        with suppress(FileExistsError):  # another process was quicker
            folder.mkdir()
            return folder


@contextmanager
def claimed_run(trainer: Trainer, experiment: Path) -> Iterator[None]:
    """Give a trainer's run a folder of its own, which is removed in the end if nothing was written into it.

    Loggers that number their runs take the next free version: Lightning's look for it long before they make the folder,
    so that two runs would share it. Without a logger it is one of `experiment`. For process 0 alone.
    """
    made: dict[Path, Path] = {}  # by the experiment's folder
    try:
        if not trainer.loggers:
            made[experiment] = claim_version(experiment)
            trainer._default_root_dir = str(made[experiment])  # type: ignore[attr-defined]
        for logger in trainer.loggers:
            # Runs of others, such as W&B's, have an id.
            if hasattr(logger, "_get_next_version") and logger._version is None:  # type: ignore[attr-defined]
                root = Path(logger.root_dir or ".")
                made[root] = made.get(root) or claim_version(root)
                logger._version = int(made[root].name.removeprefix("version_"))  # type: ignore[attr-defined]
        yield
    finally:
        for folder in made.values():
            with suppress(OSError):  # it has files
                folder.rmdir()


def refuse_taken(folder: Path, resumed: str | Path | None) -> None:
    """Raise a UserError where a training's folder, of the version that the user gave, is that of another run.

    `resumed` is the checkpoint that it goes on from, in whose run's folder it may do so.
    """
    if not RunFolder(folder).config.is_file():
        return
    if resumed is None or RunFolder.of_checkpoint(resumed).path.resolve() != folder.resolve():
        last = RunFolder(folder).checkpoint("last")
        raise UserError(
            f"trainer.logger: {folder} holds a run already, which a new training would overwrite; leave out the "
            f"logger's version{f', or go on with that run: --ckpt_path {last}' if last.is_file() else ''}"
        )
