"""Filters for library messages that do not concern the user's run; all other warnings stay."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mebert.runtime.messages import LOGGER

LIGHTNING_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")
OTHER_LOGGERS = ("lightning.fabric.utilities.seed", "lightning.pytorch.accelerators.cuda")

# How notices start that tell nothing which the run's own lines, config.yaml or Lightning's warnings do not say.
NOTICES = (
    "GPU available:",  # a GPU that is there and not used is a warning
    "TPU available:",
    "HPU available:",
    "LOCAL_RANK:",
    "Seed set to",
    "Using bfloat16 Automatic Mixed Precision",
    "Using 16bit Automatic Mixed Precision",
    "Loading `train_dataloader` to estimate number of stepping batches.",
    "Restoring states from the checkpoint path",  # "Restored all states" follows where training goes on
    "Loaded model weights from the checkpoint",
    "`Trainer.fit` stopped: `max_",
    # An advertisement: https://github.com/Lightning-AI/pytorch-lightning/issues/21294
    "💡 Tip: For seamless",
)


def silence_known_noise() -> None:
    """Install the filters; for the command line only, importing mebert changes none."""
    if any(action == "error" and text is None for action, text, *_ in warnings.filters):
        warnings.simplefilter("default")  # python -W error: libraries warn while they are imported, and would fail
    for message in (
        # Tokenised batches are cheap to build: worker processes would not help.
        r".*does not have many workers.*",
        # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
        r".*isinstance\(treespec, LeafSpec\). is deprecated.*",
        # Every command has a run folder of its own, so a checkpoint always comes from another one.
        r"The dirpath has changed from.*",
        # What is logged of an epoch, or by mebert, does not wait for this interval.
        r"The number of training batches .* is smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    warn_in_one_line()
    for logger in map(logging.getLogger, (*LIGHTNING_LOGGERS, *OTHER_LOGGERS)):
        if _says_something not in logger.filters:
            logger.addFilter(_says_something)


def warn_in_one_line() -> None:
    """Show every warning as one plain line, without the place in the code where it comes from."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {' '.join(str(message).split())}\n"


def silence_library_bars() -> None:
    """No bars of downloads, tokenising and saving, which would fill a log with carriage returns."""
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")  # for those that are imported later, and for processes that are started
    for module, function in (
        ("huggingface_hub.utils", "disable_progress_bars"),
        ("datasets", "disable_progress_bars"),
        ("transformers.utils.logging", "disable_progress_bar"),
    ):
        if module in sys.modules:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # huggingface_hub: the environment variable has the same effect
                getattr(sys.modules[module], function)()


def _says_something(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(NOTICES)


@contextmanager
def quiet_trainer() -> Iterator[None]:
    """Silence a trainer inside a run, whose lines on devices and precision would look like the run's own."""
    levels = {logger: logger.level for logger in map(logging.getLogger, (*LIGHTNING_LOGGERS, LOGGER))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in levels:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
