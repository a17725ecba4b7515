"""Weights & Biases, online or offline, with charts and summaries for models with several exits."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from mebert.errors import UserError
from mebert.loggers.account import why_offline
from mebert.loggers.charts import Best, ExitLines, summary_of
from mebert.runtime.messages import rank_zero_info

STEP = "trainer/global_step"
LONGEST_TAG = 64  # characters that W&B takes


class EarlyExitWandbLogger(WandbLogger):
    """Lightning's `WandbLogger`, which falls back to offline runs and defines mebert's metrics.

    Without an account or a reachable server, the run is written to a folder and one line gives the command that sends
    it later; nothing prompts and nothing fails. Every metric is defined with its summary (largest accuracy, area and
    speed-up, smallest loss) and with `trainer/global_step` as its step. The metrics of all exits are drawn as one chart
    for each split (`val/exits/acc`), and `best/val_auc` and `best/val_score` are there for sweeps. Checkpoints and
    tables go to `<save_dir>/<experiment>/<run id>/`, as with other loggers.

    Args:
        project: W&B's project; null for WANDB_PROJECT, else `mebert`.
        group: Runs that belong together; null for the experiment.
        job_type: What the run does; null for the command (fit, test, ...).
        tags: Added to the recipe, the task and the encoder.
        name: Display name of the run; null lets W&B choose one.
        id: Of an earlier run, to continue it; null starts a new one.
        save_dir: The folder of all experiments.
        offline: Stay offline even with an account.
        log_model: Send checkpoints and the operating point as artifacts: `true` after training, `all` whenever one is
            saved, too. An offline run keeps them until it is sent.
        init_timeout: Seconds to wait for the server before the run goes offline; WANDB_INIT_TIMEOUT overrides it.
        entity: Team or user that the project belongs to; null for the account's own.
        notes: A text about the run.
        **kwargs: From Python, other arguments of Lightning's `WandbLogger` and of `wandb.init`.
    """

    def __init__(
        self,
        project: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        name: str | None = None,
        id: str | None = None,
        save_dir: str = "runs",
        offline: bool = False,
        log_model: Literal["all"] | bool = False,
        init_timeout: float = 30.0,
        entity: str | None = None,
        notes: str | None = None,
        **kwargs: Any,
    ) -> None:
        if init_timeout <= 0:
            raise UserError(f"the logger's init_timeout must be above 0 seconds, got {init_timeout:g}")
        too_long = [tag for tag in tags or [] if not 0 < len(tag) <= LONGEST_TAG]
        if too_long:
            raise UserError(f"the logger's tags need 1 to {LONGEST_TAG} characters each, got {too_long[0]!r}")
        project = project or os.environ.get("WANDB_PROJECT", "mebert")
        options: dict[str, Any] = {"group": group, "job_type": job_type, "tags": tags, "entity": entity, "notes": notes}
        options |= {key: value for key, value in kwargs.items() if value is not None}
        try:
            # Without `offline`: Lightning would refuse `log_model` beside it, which W&B itself can do.
            super().__init__(name=name, save_dir=save_dir, id=id, project=project, log_model=log_model, **options)
        except ModuleNotFoundError as error:
            raise UserError("Weights & Biases is not installed: pip install wandb") from error
        if self._wandb_init.get("anonymous") is None:
            del self._wandb_init["anonymous"]  # W&B warns of it, whatever its value
        self.asked_offline = offline
        self.init_timeout = init_timeout
        self._folder: str | None = None
        self._started_here = False
        self._defined: set[str] = set()
        self._best, self._lines = Best(), ExitLines()
        self._saved: dict[int, ModelCheckpoint] = {}
        self._sent: set[tuple[str, int]] = set()

    def describe(self, experiment: str, job_type: str, tags: Iterable[str]) -> None:
        """Set what the user did not set; to be called before the run starts."""
        self._folder = experiment
        init = self._wandb_init
        if init["group"] is None and not os.environ.get("WANDB_RUN_GROUP"):
            init["group"] = experiment
        if init["job_type"] is None and not os.environ.get("WANDB_JOB_TYPE"):
            init["job_type"] = job_type
        given = init["tags"] or [tag for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag]
        init["tags"] = list(dict.fromkeys([*given, *(tag[:LONGEST_TAG] for tag in tags if tag)]))

    @property
    @override
    def name(self) -> str | None:
        """The folder below `save_dir` that contains the run's own: the experiment, or else the project."""
        return self._folder or self._project

    @property
    def log_model(self) -> Literal["all"] | bool:
        """Whether checkpoints and the operating point are sent."""
        return self._log_model

    @property
    @rank_zero_experiment
    @override
    def experiment(self) -> Any:
        """W&B's run, started at the first access."""
        import wandb

        if self._experiment is None and wandb.run is None and getattr(self, "_attach_id", None) is None:
            self._start()
        return super().experiment

    def _start(self) -> None:
        """Start the run online, or else offline with a line that says so."""
        import wandb

        self._started_here = True
        reason = "as asked" if self.asked_offline else why_offline()
        own_settings = self._wandb_init.get("settings") is not None
        # Absolute, since W&B's service writes it, which may have been started in another folder; there, or W&B warns.
        folder = Path(self.save_dir or ".").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self._wandb_init["dir"] = str(folder)
        if reason is None:
            if not own_settings and "WANDB_INIT_TIMEOUT" not in os.environ:
                self._wandb_init["settings"] = wandb.Settings(init_timeout=self.init_timeout)
            try:
                _ = super().experiment
                return
            except (wandb.Error, OSError, TimeoutError) as error:
                reason = f"the server could not be used: {str(error).splitlines()[0]}"
                wandb.teardown(exit_code=1)  # or its service would keep the id of the run that it tried to start
        self._wandb_init["mode"] = "offline"
        if not own_settings:
            self._wandb_init["settings"] = wandb.Settings(silent=True)  # our line replaces its messages
        run = super().experiment
        waiting = shlex.quote(os.path.relpath(Path(run.dir).parent))
        rank_zero_info(f"Weights & Biases: offline ({reason}); send the run later with: wandb sync {waiting}")

    def end_run(self, exit_code: int = 0) -> None:
        """Finish the run, if it was started here, so that another can follow in this process."""
        if self._experiment is not None and self._started_here:
            self._id = self._experiment.id
            self._experiment.finish(exit_code=exit_code)
            self._experiment, self._started_here = None, False

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        numbers = {name: value for name, value in metrics.items() if isinstance(value, Real)}
        best = self._best.update(numbers)
        for name in (*numbers, *best):
            if name not in self._defined and name != STEP:
                self._defined.add(name)
                full_name = f"{self._prefix}{self.LOGGER_JOIN_CHAR}{name}" if self._prefix else name
                self.experiment.define_metric(full_name, step_metric=STEP, summary=summary_of(name))
        charts = {} if step is None else self._lines.update(numbers, step)
        super().log_metrics({**metrics, **best, **charts}, step)

    @override
    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        if self._log_model:
            self._saved[id(checkpoint_callback)] = checkpoint_callback
        if self._log_model == "all":
            self._send_checkpoints()

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        if status == "success" and self._experiment is not None:
            self._send_checkpoints()

    def _send_checkpoints(self) -> None:
        """Send every new file as a version of the run's artifact, with its own name as alias, `best` last.

        Lightning would give the alias `best` to the file to resume from, too, since it is the best of its callback.
        """
        import wandb

        callbacks = self._saved.values()
        paths = {path for c in callbacks for path in (c.best_model_path, c.last_model_path, *c.best_k_models) if path}
        for path in sorted(map(Path, paths), key=lambda path: (path.stem == "best", path.name)):
            if not path.is_file() or (str(path), path.stat().st_mtime_ns) in self._sent:
                continue
            self._sent.add((str(path), path.stat().st_mtime_ns))
            name = self._checkpoint_name or f"model-{self.experiment.id}"
            artifact = wandb.Artifact(name, type="model", metadata={"file": path.name, "experiment": self.name})
            artifact.add_file(str(path), name=path.name, policy=self.add_file_policy)
            self.experiment.log_artifact(artifact, aliases=["latest", path.stem])


def describe_runs(loggers: Iterable[Any], experiment: str, command: str, module: Any, data: Any) -> None:
    """Set group (the experiment), job type (the command) and tags (recipe, task, encoder) of W&B's runs.

    Whatever the user has set stays.
    """
    task = getattr(data, "task_name", type(data).__name__)
    for logger in loggers:
        if isinstance(logger, EarlyExitWandbLogger):
            logger.describe(experiment, command, (type(module).__name__, str(task), encoder_name(module)))


def encoder_name(module: Any) -> str:
    """The Hub id of a module's encoder, the name of its folder, or the model type of one built from a configuration."""
    settings = getattr(module, "hparams", {})
    if settings.get("encoder_config"):
        return str(settings["encoder_config"].get("model_type", ""))
    encoder = str(settings.get("encoder") or "")
    return Path(encoder).resolve().name if Path(encoder).is_dir() else encoder


def end_runs(loggers: Iterable[Any], exit_code: int) -> None:
    """Finish W&B's runs; `exit_code` is 0 if the command succeeded."""
    for logger in loggers:
        if isinstance(logger, EarlyExitWandbLogger):
            logger.end_run(exit_code)
