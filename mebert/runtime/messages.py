"""Notes and warnings of mebert's own, from the first process alone; without Lightning, whose import takes seconds."""

from __future__ import annotations

import logging
import os
import warnings

from lightning_utilities.core.rank_zero import rank_zero_only

LOGGER = "mebert"

_logger = logging.getLogger(LOGGER)
_logger.setLevel(logging.INFO)
if not logging.getLogger().hasHandlers():  # a program with logging of its own has the notes there
    _logger.addHandler(logging.StreamHandler())
    _logger.propagate = False


def rank_zero_info(text: str) -> None:
    """Print a note on standard error, or wherever the program's logging sends it."""
    if _is_first_process():
        _logger.info(text)


def rank_zero_warn(text: str) -> None:
    """Warn, with the caller's place."""
    if _is_first_process():
        warnings.warn(text, UserWarning, stacklevel=3)


def _is_first_process() -> bool:
    rank = getattr(rank_zero_only, "rank", None)  # Lightning sets it when it is imported
    if rank is None:
        rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0
    return int(rank) == 0
