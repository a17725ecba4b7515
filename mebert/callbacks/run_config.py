"""The run's full configuration, saved where its results are."""

from __future__ import annotations

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from typing_extensions import override

from mebert.storage.atomic import atomic_path
from mebert.storage.run_folder import run_folder


class RunConfig(SaveConfigCallback):
    """Writes `config.yaml` into the run's own folder and sends the whole configuration to the loggers.

    Lightning's own callback writes to `trainer.log_dir`, which for Weights & Biases is the folder of all
    runs, so that a second run stops ("expected runs/config.yaml to NOT exist"); see
    https://github.com/Lightning-AI/pytorch-lightning/issues/7679 and 11256.
    """

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Nothing yet: what data, modules and callbacks refuse while they are set up leaves no folder behind."""
        self._stage = stage

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().setup(trainer, pl_module, self._stage)  # once; in `fit` the sanity check comes first

    on_train_start = on_test_start = on_validation_start  # a prediction leaves nothing but its answers

    @override
    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        path = run_folder(trainer) / self.config_filename
        with atomic_path(path) as unfinished:
            self.parser.save(self.config, unfinished, skip_none=False, overwrite=True, multifile=False)
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):  # its folder holds the file already
                logger.log_hyperparams({"config": config})  # class names too, which Lightning does not send (19728)
