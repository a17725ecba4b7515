"""What a command prints at its end: the files that were saved, and the commands that come next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.report.layout import print_pairs
from mebert.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel

MAX_DROP = 0.01
BENCH_LENGTH = 128  # tokens that `bench` takes by default


def print_saved(folder: Path, best: Path, datamodule: Any, module: Any, epochs: int | None) -> None:
    """Print the files and the next commands after `fit`.

    Args:
        folder: The run's folder.
        best: Its best checkpoint.
        datamodule: Own texts can be predicted where it has a `predict_file`.
        module: Its operating points can be asked for.
        epochs: `max_epochs` of the run; None or -1 where steps were counted.
    """
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
    print_pairs("Next:", found | _with_model(folder, datamodule, module.model))


def print_next(command: str, checkpoint: Path, folder: Path, datamodule: Any, module: Any) -> None:
    """Print the next commands after `validate`, `test` and `predict`.

    Args:
        command: What has run.
        checkpoint: What was opened.
        folder: Of this run; its configuration is used where that of the checkpoint's run is missing.
        datamodule: As `print_saved`.
        module: As `print_saved`.
    """
    trained = RunFolder.of_checkpoint(checkpoint)
    run = trained.path if trained.config.is_file() else folder
    predict, test = _command("predict", run, checkpoint), _command("test", run, checkpoint)
    found = {"predict": f"{predict} --out out.csv{_speedup(module, fastest=True)}"}
    if command == "validate":
        found = {"test": test} | found
    elif command == "test":
        found |= _with_model(run, datamodule, module.model)
    else:
        found = {"how good it is": test}
        if option := _speedup(module, fastest=False):
            found[f"{option.split()[-1]} times as fast"] = predict + option
        found |= _with_model(run, datamodule, module.model)
    print_pairs("Next:", found)


def bench_command(folder: str, model: MultiExitModel) -> str:
    """The command that measures a model's speed, with texts no longer than it reads."""
    limit = model.adapter.max_length
    shorter = f" --max_length {limit}" if limit < BENCH_LENGTH else ""
    return f"python -m mebert bench --model {shlex.quote(folder)}{shorter}"


def _command(name: str, run: Path, checkpoint: Path) -> str:
    config = shlex.quote(str(run / "config.yaml"))
    return f"python -m mebert {name} --config {config} --ckpt_path {shlex.quote(str(checkpoint))}"


def _with_model(run: Path, datamodule: Any, model: MultiExitModel) -> dict[str, str]:
    """The commands that need a saved model: a threshold for a largest drop (on the run's own rows), its speed."""
    if not (run / "model").is_dir():
        return {}
    found = {}
    if hasattr(datamodule, "collate_for"):
        calibrate = f"python -m mebert calibrate --model {shlex.quote(str(run))} --max_drop {MAX_DROP:g}"
        found["choose a speed"] = calibrate
    return found | {"measure its speed": bench_command(str(run), model)}


def _speedup(module: Any, fastest: bool) -> str:
    """The option for the fastest or the slowest speed-up that the module's policy has a threshold for; else empty."""
    stored = sorted(module.operating_points.get(module.policy.name, {}))
    return f" --speedup {stored[-1 if fastest else 0]:g}" if stored else ""
