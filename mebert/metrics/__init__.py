"""From one recorded pass over a split to numbers: task metrics, accuracy-speed curves, intervals, ranks."""

from mebert.storage.aliases import moved_names

__getattr__ = moved_names(__name__)
