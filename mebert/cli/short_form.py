"""Commands that name their model first: `predict RUN reviews.csv`, `test RUN`, `test RUN labelled.csv`, `validate RUN`.

Where a trainer is needed they become the words of LightningCLI's form, else a command of mebert's own is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mebert.errors import UserError

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
    return [command, "--config", str(found.run.config), "--ckpt_path", str(Path(found.checkpoint)), *rest]
