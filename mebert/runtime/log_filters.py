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
    ):
        warnings.filterwarnings("ignore", message=message)
    # An advertisement: https://github.com/Lightning-AI/pytorch-lightning/issues/21294
    logger = logging.getLogger(LIGHTNING_LOGGERS[0])
    if _no_advertisement not in logger.filters:
        logger.addFilter(_no_advertisement)


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


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()


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
