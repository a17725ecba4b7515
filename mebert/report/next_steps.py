"""What a command prints at its end: the files that were saved, and the commands that come next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.report.layout import print_pairs
from mebert.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from mebert.storage.operating_point import OperatingPoint

SUGGESTED_DROP = 0.01  # larger than the default, so that the command changes something


def print_saved(folder: Path, best: Path, datamodule: Any) -> None:
    """Print where a run is, and the next commands, after `fit`."""
    report, config = folder / "report.md", RunFolder(folder).config
    saved: dict[str, Any] = {"run": folder}
    if config.exists():
        saved["settings"] = f"{config} (change it, and run it by fit --config)"
    print_pairs("Saved:", saved | ({"all tables": report} if report.exists() else {}))
    predict = f"{_command('predict', folder, best)} --out out.csv"
    print_pairs("Next:", {"predict": predict} | _with_model(folder, datamodule))


def print_next(
    command: str, checkpoint: Path, folder: Path, datamodule: Any, module: Any, used: OperatingPoint
) -> None:
    """Print the next commands after `validate`, `test` or `predict` opened a checkpoint and ran it at the point `used`.

    The configuration in this run's `folder` is used where that of the checkpoint's run is missing.
    """
    trained = RunFolder.of_checkpoint(checkpoint)
    run = trained.path if trained.config.is_file() else folder
    predict, test = _command("predict", run, checkpoint), _command("test", run, checkpoint)
    plain = {"predict": f"{predict} --out out.csv"}
    match command:
        case "validate":
            found = {"test": test} | plain
        case "test":
            found = plain | _with_model(run, datamodule)
        case _:
            found = {"how good it is": test} | _other_speed(module, used, predict)
    if (report := folder / "report.md").exists():
        print_pairs("Saved:", {"run": folder, "all tables": report})
    if RunFolder(run).config.is_file():  # else no command can name a configuration
        print_pairs("Next:", found)


def bench_command(folder: str) -> str:
    """The command that measures a model's speed."""
    return f"python -m mebert bench {shlex.quote(folder)}"


def _command(name: str, run: Path, checkpoint: Path) -> str:
    """The short form for the best checkpoint of a finished run, else LightningCLI's."""
    files = RunFolder(run)
    if checkpoint.resolve() == files.checkpoint().resolve() and files.model.is_dir() and files.config.is_file():
        return f"python -m mebert {name} {shlex.quote(str(run))}{' my.csv' if name == 'predict' else ''}"
    return (
        f"python -m mebert {name} --config {shlex.quote(str(files.config))} --ckpt_path {shlex.quote(str(checkpoint))}"
    )


def _with_model(run: Path, datamodule: Any) -> dict[str, str]:
    """A command that needs a saved model: a threshold for a largest drop, on the run's own rows, else its speed."""
    if not (run / "model").is_dir():
        return {}
    if not hasattr(datamodule, "collate_for"):
        return {"measure its speed": bench_command(str(run))}
    calibrate = f"python -m mebert calibrate {shlex.quote(str(run))} --max_drop {SUGGESTED_DROP:g}"
    return {"choose a speed": calibrate}


def _other_speed(module: Any, used: OperatingPoint, predict: str) -> dict[str, str]:
    """The command for the next faster stored speed-up than that of the point used, else for the full depth."""
    now = 1.0 if used.threshold == 0.0 or used.expected is None else used.expected.speedup
    stored = sorted(module.operating_points.get(module.policy.name, {}))
    faster = next((speedup for speedup in stored if speedup > max(now, 1.0) * 1.05), None)
    if faster is not None:
        return {f"{faster:g} times as fast": f"{predict} --speedup {faster:g}"}
    return {"all layers": f"{predict} --speedup 1"} if used.threshold else {}
