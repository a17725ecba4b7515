"""What a command prints at its end: the files that were saved, and the commands that come next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from mebert.report.layout import print_pairs
from mebert.storage.run_folder import RunFolder

MAX_DROP = 0.01


def print_saved(folder: Path, best: Path, datamodule: Any, module: Any, epochs: int | None) -> None:
    """Print the files of a run and the next commands after `fit`; `epochs` is None or -1 where steps were counted."""
    files = RunFolder(folder)
    saved = {
        "config": files.config,
        "metrics": files.metrics,
        "checkpoints": files.checkpoints,
        "curve": folder / "curve.png",
        "evaluation": files.evaluation,
        "model folder": files.model,
    }
    print_pairs("Saved:", {name: path for name, path in saved.items() if path.exists()})
    own_file = " --data.predict_file my.csv" if hasattr(datamodule, "predict_file") else ""
    last = shlex.quote(str(best.with_name("last.ckpt")))
    more = f" --trainer.max_epochs {2 * epochs}" if epochs is not None and epochs > 0 else " --trainer.max_steps 1000"
    predict, config = _command("predict", folder, best) + own_file, shlex.quote(str(RunFolder(folder).config))
    found = {
        "predict": f"{predict} --out out.csv",
        "faster": f"{predict} --out fast.csv{_speedup(module, fastest=True)}",
        "test again": _command("test", folder, best),
        "train on": f"python -m mebert fit --config {config} --ckpt_path {last}{more}",
    }
    print_pairs("Next:", found | _with_model(folder, datamodule))


def print_next(command: str, checkpoint: Path, folder: Path, datamodule: Any, module: Any) -> None:
    """Print the next commands after `validate`, `test` or `predict` opened a checkpoint.

    The configuration in this run's `folder` is used where that of the checkpoint's run is missing.
    """
    trained = RunFolder.of_checkpoint(checkpoint)
    run = trained.path if trained.config.is_file() else folder
    predict, test = _command("predict", run, checkpoint), _command("test", run, checkpoint)
    fast = {"predict": f"{predict} --out out.csv{_speedup(module, fastest=True)}"}
    slower = _speedup(module, fastest=False)
    slow = {f"{slower.split()[-1]} times as fast": predict + slower} if slower else {}
    match command:
        case "validate":
            found = {"test": test} | fast
        case "test":
            found = fast | _with_model(run, datamodule)
        case _:
            found = {"how good it is": test} | slow | _with_model(run, datamodule)
    print_pairs("Next:", found)


def bench_command(folder: str) -> str:
    """The command that measures a model's speed."""
    return f"python -m mebert bench --model {shlex.quote(folder)}"


def _command(name: str, run: Path, checkpoint: Path) -> str:
    config = shlex.quote(str(run / "config.yaml"))
    return f"python -m mebert {name} --config {config} --ckpt_path {shlex.quote(str(checkpoint))}"


def _with_model(run: Path, datamodule: Any) -> dict[str, str]:
    """The commands that need a saved model: a threshold for a largest drop (on the run's own rows), its speed."""
    if not (run / "model").is_dir():
        return {}
    calibrate = f"python -m mebert calibrate --model {shlex.quote(str(run))} --max_drop {MAX_DROP:g}"
    found = {"choose a speed": calibrate} if hasattr(datamodule, "collate_for") else {}
    return found | {"measure its speed": bench_command(str(run))}


def _speedup(module: Any, fastest: bool) -> str:
    """The option for the fastest or the slowest speed-up that the module's policy has a threshold for; else empty."""
    stored = sorted(module.operating_points.get(module.policy.name, {}))
    return f" --speedup {stored[-1 if fastest else 0]:g}" if stored else ""
