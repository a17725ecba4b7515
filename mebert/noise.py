"""Messages of the libraries that say nothing about the user's run; every other warning stays."""

from __future__ import annotations

import logging
import warnings

__all__ = ["silence_known_noise"]


def silence_known_noise() -> None:
    """Filter them, for the command line only: importing mebert changes no filter."""
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
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    if _no_advertisement not in logger.filters:
        logger.addFilter(_no_advertisement)


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless" not in record.getMessage()
