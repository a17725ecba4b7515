"""The command line: dispatch, LightningCLI, configuration files, help and messages."""

from mebert.storage.aliases import moved_names

__getattr__ = moved_names(__name__)
