"""Where runs are logged beside their own folder: Weights & Biases."""

from mebert.loggers.wandb_logger import EarlyExitWandbLogger

__all__ = ["EarlyExitWandbLogger"]
