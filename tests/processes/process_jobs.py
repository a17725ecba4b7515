"""What a group of processes does: jobs with tiny models, each saving what has to be the same on any number."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from runs import experiment
from tiny import quiet_trainer
from torch import Tensor

from mebert import modules
from mebert.callbacks import ExitAccuracy, PredictionWriter
from mebert.callbacks.exit_prediction import ExitPrediction
from mebert.cli.errors import convert_lightning_errors
from mebert.curriculum import CrossReview, KnownDifficulty, Loss, RootCompetence, SyntheticCurriculumDataModule
from mebert.data import SyntheticEntailmentDataModule, TextDataModule
from mebert.modules import MultiExitModule
from mebert.modules.teacher_logits import TeacherLogits
from mebert.runtime.distributed import gather_rows
from mebert.runtime.patient_ddp import PatientDDP

GLOBAL_BATCH = 12  # shared by 1, 2 or 3 processes
TRAIN, EVAL = 42, 41  # the last training batch is half a batch; 41 can be shared by neither 2 nor 3
ENCODER = {**experiment()["model"]["init_args"]["encoder_config"], "initializer_range": 0.2}
SETTINGS: dict[str, dict[str, Any]] = {
    "CurriculumDistillModule": {"distillation": "both", "feature_weight": 0.5, "projection": True},
    "ProtoExitModule": {"prototype_dim": 8, "lam": 0.5, "class_weights": "balanced"},
    "DeeBERTModule": {"stage1_epochs": 1, "student_learning_rate": 1e-2},
    "FastBERTModule": {"stage1_epochs": 1, "student_learning_rate": 1e-2},
    "LearnedWeightsModule": {"weights_learning_rate": 1e-2},
}


class Watch(L.Callback):
    """Keeps the loss and the rows of each global batch, and what validation found."""

    def __init__(self, at_step: Callable[[int], None] = lambda step: None) -> None:
        self.losses: list[float] = []
        self.rows: list[list[int]] = []
        self.metrics: list[dict[str, float]] = []
        self.at_step = at_step

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        # Adam makes a step of full size of a gradient that is nothing but rounding; not with this.
        for group in trainer.optimizers[0].param_groups:
            group["eps"] = 1e-2

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self.at_step(trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(gather_rows(outputs["loss"].detach().view(1)).mean().item())
        self.rows.append(sorted(gather_rows(batch["index"]).tolist()))

    def on_validation_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.metrics.append({n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("val/")})


def module_of(name: str, **settings: Any) -> Any:
    """A module with the same weights in every process."""
    L.seed_everything(7, verbose=False)
    given = {"encoder_config": ENCODER, "num_labels": 3, "learning_rate": 1e-2, "dropout": 0.0} | settings
    return getattr(modules, name)(**given | SETTINGS.get(name, {}))


def sure_module(num_labels: int = 3) -> Any:
    """A module whose exits are sure of some texts and not of others."""
    module = module_of("MultiExitModule", num_labels=num_labels, threshold=0.5)
    with torch.no_grad():
        for parameter in module.model.exits.parameters():
            parameter.mul_(60.0)
    return module


def data_of(world: int, kind: type[Any] = SyntheticEntailmentDataModule, **settings: Any) -> Any:
    sizes = {"train_samples": TRAIN, "eval_samples": EVAL}
    return kind(batch_size=GLOBAL_BATCH // world, eval_batch_size=12 // world, **sizes | settings)


def trainer_of(world: int, folder: Path, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    given = {"devices": world, "strategy": PatientDDP() if world > 1 else "auto", "default_root_dir": folder}
    given |= {"enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks), "num_sanity_val_steps": 0}
    return quiet_trainer(*callbacks, precision="32-true", **given | settings)


# ---- jobs: (world, folder) to what is compared -----------------------------------------------------------------------


def train(name: str, world: int, folder: Path) -> dict[str, Any]:
    """Two epochs of a module; of a recipe of two stages, one each."""
    module, watch = module_of(name), Watch()
    before = {n: p.detach().clone() for n, p in module.state_dict().items()}
    trainer = trainer_of(world, folder, ExitAccuracy(), watch, max_epochs=2)
    trainer.fit(module, data_of(world))
    weights = {n: p.detach().clone() for n, p in module.state_dict().items()}
    moved = sum(not torch.equal(before[n], p) for n, p in weights.items() if n in before)
    return {"losses": watch.losses, "rows": watch.rows, "metrics": watch.metrics, "weights": weights, "moved": moved}


def curriculum(world: int, folder: Path, name: str = "MultiExitModule", **given: Any) -> dict[str, Any]:
    """The rows of each global batch, in an order that difficulty and pacing decide, and the difficulty of each row."""
    watch = Watch()
    data = data_of(world, SyntheticCurriculumDataModule, within_class=False, **given)
    trainer_of(world, folder, watch, max_epochs=2, limit_val_batches=0).fit(module_of(name), data)
    return {"rows": watch.rows, "losses": watch.losses, "difficulty": torch.from_numpy(data.current_difficulty(1))}


def scored_curriculum(world: int, folder: Path) -> dict[str, Any]:
    """Scores of training: a row comes several times in an epoch, on any process, and its newest score counts."""
    pacing = RootCompetence(0.8, 0.2)
    return curriculum(world, folder, difficulty=Loss(), initial=KnownDifficulty(), pacing=pacing, smoothing=0.3)


def cross_review(world: int, folder: Path) -> dict[str, Any]:
    """Teachers that would wait for ever if they reduced their prototypes over all processes."""
    return curriculum(world, folder, "ProtoExitModule", difficulty=CrossReview(teachers=2))


def ranking(world: int, folder: Path) -> dict[str, Any]:
    """Figures of retrieval: the answers to a question are on several processes."""
    data = TextDataModule(
        tokenizer=str(folder / "tokenizer"), max_length=32, eval_batch_size=6 // world, text_column="question",
        text_pair_column="answer", query_column="qid", train_file=str(folder / "answers.csv"),
        test_file=str(folder / "answers.csv"),
    )  # fmt: skip
    trainer = trainer_of(world, folder, ExitAccuracy())
    (found,) = trainer.test(module_of("MultiExitModule", num_labels=2), datamodule=data, verbose=False)
    return {"metrics": [found]}


def predictors(world: int, folder: Path) -> dict[str, Any]:
    """Tables of exit prediction, learnt from runs of the best checkpoint."""
    path = folder / f"best-{world}"
    best = ModelCheckpoint(dirpath=path, monitor="val/score", mode="max", filename="best")
    callbacks = (Watch(), ExitAccuracy(), best, ExitPrediction(kind="token", ngram=2, buckets=64))
    trainer = trainer_of(world, folder, *callbacks, max_epochs=1)
    # Nearly without a step, so that no text moves across the threshold.
    trainer.fit(module_of("MultiExitModule", threshold=0.9, learning_rate=1e-9), data_of(world))
    states = torch.load(path / "best.ckpt", weights_only=True)["mebert"]["exit_predictors"]
    return {"tensors": dict(tensors_in(states))}


def predict(engine: str, world: int, folder: Path) -> dict[str, Any]:
    """A table of predictions; process by process, batch by batch the rows come in any order."""
    path = folder / f"{engine}-{world}.csv"
    trainer_of(world, folder, PredictionWriter(str(path), engine=engine)).predict(
        sure_module(), data_of(world), return_predictions=False
    )
    return {}


def own_folder(world: int, folder: Path) -> dict[str, Any]:
    """A table in the run's folder, whose name the first process alone knows."""
    logger = CSVLogger(folder, name=f"own-{world}")
    trainer = trainer_of(world, folder, PredictionWriter(), logger=logger)
    trainer.predict(sure_module(), data_of(world), return_predictions=False)
    return {}


def stream(world: int, folder: Path) -> dict[str, Any]:
    """The same of a file that is read as it is predicted; loaders have a worker on two processes, two on three."""
    path = folder / f"stream-{world}.csv"
    data = TextDataModule(
        tokenizer=str(folder / "tokenizer"), max_length=32, eval_batch_size=4, labels=["no", "yes"],
        predict_file=str(folder / "texts.jsonl"), streaming=True, num_workers=world - 1,
    )  # fmt: skip
    trainer = trainer_of(world, folder, PredictionWriter(str(path)))
    trainer.predict(sure_module(num_labels=2), datamodule=data, return_predictions=False)
    return {}


def cache(world: int, folder: Path) -> dict[str, Any]:
    """How often each process has tokenised."""
    import mebert.data.tokenised as tokenised

    calls: list[int] = []
    real = tokenised.encode

    def counted(batch: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return real(batch, *args, **kwargs)

    tokenised.encode = counted
    tokenised.MAP_FROM = 1
    try:
        data = TextDataModule(
            tokenizer=str(folder / "tokenizer"), max_length=31 + world, labels=["0", "1"],
            text_column="question", test_file=str(folder / "answers.csv"),
        )  # fmt: skip
        trainer_of(world, folder).test(module_of("MultiExitModule", num_labels=2), datamodule=data, verbose=False)
    finally:
        tokenised.encode = real
    counts = gather_rows(torch.tensor([len(calls)])).tolist()
    base = data.split("test").tokens.base
    return {"calls": counts, "is_mapped": type(base).__name__}


class Taught(MultiExitModule):
    """Asks a teacher as training begins, and then another one, which finds what the first has computed."""

    def on_fit_start(self) -> None:
        self.tables = []
        for _ in range(2):
            teacher = TeacherLogits(str(Path(self.trainer.default_root_dir, "teacher")))
            teacher.prepare(self.trainer)
            self.tables.append(gather_rows(teacher.logits))


def taught(world: int, folder: Path) -> dict[str, Any]:
    """The logits of a teacher in every process."""
    files = dict.fromkeys(("train_file", "validation_file"), str(folder / "answers.csv"))
    data = TextDataModule(
        tokenizer=str(folder / "tokenizer"), max_length=40 + world, text_column="question", labels=["0", "1"], **files
    )
    module = Taught(encoder_config=ENCODER, num_labels=2)
    trainer_of(world, folder, max_steps=1, limit_val_batches=0).fit(module, data)
    return {"tables": torch.stack(module.tables).unflatten(1, (world, -1))}


JOBS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    **{name: (lambda world, folder, name=name: train(name, world, folder)) for name in modules.__all__},
    "curriculum": partial(curriculum, difficulty=KnownDifficulty(), pacing=RootCompetence(0.8, 0.2)),
    "scored curriculum": scored_curriculum,
    "cross-review": cross_review,
    "ranking": ranking,
    "predictors": predictors,
    **{
        f"predict {engine}": (lambda world, folder, engine=engine: predict(engine, world, folder))
        for engine in ("shrink", "refill")
    },
    "own folder": own_folder,
    "stream": stream,
    "cache": cache,
    "taught": taught,
}


def all_jobs(rank: int, world: int, folder: Path) -> None:
    """Every job, one after another."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    for name, job in JOBS.items():
        found = job(world, folder)
        if rank == 0:
            torch.save(found, folder / f"{name}-{world}.pt")


def tensors_in(value: Any, name: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return [found for key, part in parts for found in tensors_in(part, f"{name}/{key}")]


# ---- a process that dies ---------------------------------------------------------------------------------------------


def fit_until(rank: int, world: int, folder: Path, what: str) -> None:
    """Training in which the last process ends, by a signal or an error, in the third step."""

    def end(step: int) -> None:
        if step == 2 and rank == world - 1:
            if what == "signal":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("something that only this process has met")

    trainer = trainer_of(world, folder, Watch(end), max_epochs=50)
    with convert_lightning_errors(trainer):
        trainer.fit(module_of("ProtoExitModule"), data_of(world))


def predict_until(rank: int, world: int, folder: Path) -> None:
    """Prediction in which the last process is killed after its second shard."""

    class Die(L.Callback):
        def on_predict_batch_end(self, *_: Any) -> None:
            if rank == world - 1 and len(list((folder / "out.csv.shards").glob(f"part-{rank:05d}-*.parquet"))) >= 2:
                os.kill(os.getpid(), signal.SIGKILL)

    import mebert.report.prediction_shards as shards

    shards.SHARD_ROWS = 8
    trainer = trainer_of(world, folder, PredictionWriter(str(folder / "out.csv")), Die())
    with convert_lightning_errors(trainer):
        trainer.predict(sure_module(), data_of(world, eval_samples=200), return_predictions=False)
