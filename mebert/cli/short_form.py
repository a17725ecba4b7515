"""Commands that name their model first: `predict RUN [FILE]`, `test RUN`, `test RUN labelled.csv`, `validate RUN`.

Where a trainer is needed they become the words of LightningCLI's form, else a command of mebert's own is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mebert.errors import UserError

if TYPE_CHECKING:
    from mebert.storage.run_folder import RunFolder

NAMES_FIRST = ("predict", "test", "validate")


def is_short(words: Sequence[str]) -> bool:
    """Whether a command line names its model first."""
    return len(words) > 1 and words[0] in NAMES_FIRST and not words[1].startswith("-")


def needs_no_trainer(words: Sequence[str]) -> bool:
    """Whether a short form is run by mebert's own command: a prediction, or a test of a file."""
    has_file = len(words) > 2 and (not words[2].startswith("-") or words[2] in ("-h", "--help"))
    return words[0] == "predict" or (words[0] == "test" and has_file)


def in_full(words: Sequence[str]) -> list[str]:
    """`test RUN ...` as `test --config RUN/config.yaml --ckpt_path RUN/checkpoints/best.ckpt ...`."""
    from mebert.runtime.messages import rank_zero_warn
    from mebert.storage.model_spec import ModelSpec
    from mebert.storage.run_folder import find_model

    command, name, *rest = words
    found = find_model(name)
    if found.run is None:
        file = f", such as: python -m mebert test {name} labelled.csv" if command == "test" else ""
        raise UserError(f"{name} is a model without its run, so that its data is not known: give a labelled file{file}")
    if found.checkpoint is None:
        raise UserError(f"{name} has no checkpoint ({found.run.checkpoint()} is missing): give another run")
    if found.model is not None and (by := ModelSpec.read(found.model).chosen_by or "").startswith("calibrate"):
        rank_zero_warn(
            f"{command} {name} is about the operating point of the checkpoint, but {found.model} has one of its own "
            f"(by {by}), which predict {name} uses; to test that: python -m mebert test {name} labelled.csv"
        )
    own = ["--config", str(found.run.config), "--ckpt_path", str(Path(found.checkpoint))]
    return [command, *own, *_beside(found.run), *rest]


def _beside(run: RunFolder) -> list[str]:
    """The options by which results go beside this run where its configuration names another place, as in a copy."""
    from jsonargparse import Namespace

    from mebert.cli.settings import experiment_folder
    from mebert.data.model_rows import read_run_config

    content, beside = read_run_config(run.config), run.path.parent
    beside = beside if beside.name else beside.absolute()
    trainer = content.get("trainer") or {}
    logger, root = trainer.get("logger"), trainer.get("default_root_dir")
    first = logger[0] if isinstance(logger, list) and logger else logger
    named = str(first.get("class_path")) if isinstance(first, dict) else None
    if isinstance(first, dict):
        first = Namespace(class_path=named, init_args=Namespace(**first.get("init_args") or {}))
    trained = Namespace(experiment=content.get("experiment"), trainer=Namespace(logger=first, default_root_dir=root))
    if experiment_folder(trained)[0].resolve() == beside.resolve():
        return []
    options: dict[str, object] = {"experiment": beside.name, "trainer.default_root_dir": beside.parent}
    if named is not None and not isinstance(logger, list):
        options["trainer.logger.init_args.save_dir"] = beside.parent
        if not named.endswith("EarlyExitWandbLogger"):  # of which it is a name to be shown
            options["trainer.logger.init_args.name"] = beside.name
    return [f"--{name}={value}" for name, value in options.items()]
