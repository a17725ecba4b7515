"""The last words of a command: what was saved where, and the exact commands that come next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.report.layout import print_pairs

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel

__all__ = ["bench_command", "print_next", "print_saved"]

MOST_ALLOWED_DROP = 0.01
BENCH_LENGTH = 128  # tokens that `bench` takes by default


def print_saved(folder: Path, best: Path, datamodule: Any, module: Any, epochs: int | None) -> None:
    """After `fit`: both tables.

    Args:
        folder: The run's.
        best: Its best checkpoint.
        datamodule: Own texts can be predicted where it has a `predict_file`.
        module: Holds the operating points that can be asked for.
        epochs: How many the run was set to; None or -1 where steps were counted.
    """
    names = {
        "config": "config.yaml",
        "metrics": "metrics.csv",
        "checkpoints": "checkpoints",
        "curve": "curve.png",
        "evaluation": "evaluation.json",
        "model folder": "model",
    }
    print_pairs("Saved:", {k: folder / v for k, v in names.items() if (folder / v).exists()})
    run, stored = _Run(folder, best), _stored(module)
    own_file = " --data.predict_file my.csv" if hasattr(datamodule, "predict_file") else ""
    faster = f" --speedup {stored[-1]:g}" if stored else ""
    last = shlex.quote(str(best.with_name("last.ckpt")))
    more = f" --trainer.max_epochs {2 * epochs}" if epochs is not None and epochs > 0 else " --trainer.max_steps 1000"
    found = {
        "predict": f"{run.command('predict')}{own_file} --out out.csv",
        "faster": f"{run.command('predict')}{own_file} --out fast.csv{faster}",
        "test again": run.command("test"),
        "train on": f"python -m mebert fit --config {run.config} --ckpt_path {last}{more}",
    }
    print_pairs("Next:", found | run.with_model(datamodule, module.model))


def print_next(command: str, checkpoint: Path, folder: Path, datamodule: Any, module: Any) -> None:
    """After `validate`, `test` and `predict`: what to do with the checkpoint now.

    Args:
        command: What has run.
        checkpoint: What was opened.
        folder: Of this very run, whose configuration serves where the checkpoint's own has been lost.
        datamodule: As `print_saved`.
        module: As `print_saved`.
    """
    trained = checkpoint.parent.parent
    run = _Run(trained if (trained / "config.yaml").is_file() else folder, checkpoint)
    stored = _stored(module)
    faster = f" --speedup {stored[-1]:g}" if stored else ""
    predict = {"predict": f"{run.command('predict')} --out out.csv{faster}"}
    if command == "validate":
        found = {"test": run.command("test")} | predict
    elif command == "test":
        found = predict | run.with_model(datamodule, module.model)
    else:
        other = {f"{speed:g} times as fast": f"{run.command('predict')} --speedup {speed:g}" for speed in stored[:1]}
        found = {"how good it is": run.command("test")} | other | run.with_model(datamodule, module.model)
    print_pairs("Next:", found)


def bench_command(folder: str, model: MultiExitModel) -> str:
    """How its speed is measured, with texts no longer than it reads.

    Args:
        folder: A run, or its folder `model`.
        model: What is in it.
    """
    limit = model.adapter.max_length
    shorter = f" --max_length {limit}" if limit < BENCH_LENGTH else ""
    return f"python -m mebert bench --model {shlex.quote(folder)}{shorter}"


class _Run:
    """A training's folder and one of its checkpoints, as words of a command line."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.folder = folder
        self.config = shlex.quote(str(folder / "config.yaml"))
        self.checkpoint = shlex.quote(str(checkpoint))

    def command(self, name: str) -> str:
        return f"python -m mebert {name} --config {self.config} --ckpt_path {self.checkpoint}"

    def with_model(self, datamodule: Any, model: MultiExitModel) -> dict[str, str]:
        """What works with a saved model: a threshold for a most allowed loss (from the run's own rows), its speed."""
        if not (self.folder / "model").is_dir():
            return {}
        folder = shlex.quote(str(self.folder))
        found = {"measure its speed": bench_command(str(self.folder), model)}
        if hasattr(datamodule, "collate_for"):
            loss = f"python -m mebert calibrate --model {folder} --max_drop {MOST_ALLOWED_DROP:g}"
            return {"choose a speed": loss} | found
        return found


def _stored(module: Any) -> list[float]:
    """Speed-ups of the operating points that the module's policy has thresholds for."""
    return sorted(module.operating_points.get(module.policy.name, {}))
