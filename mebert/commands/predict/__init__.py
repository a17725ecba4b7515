"""The command `predict` on texts that are given to it: no trainer, no run folder, nothing written but the answer."""
