"""What a command prints at its end: the files that were saved, and the commands that come next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.report.layout import print_pairs
from mebert.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from mebert.policies.stored_thresholds import OperatingPoint

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
        **_other_speed(module, module.operating_point, f"{predict} --out other.csv"),
        "test again": _command("test", folder, best),
        "train on": f"python -m mebert fit --config {config} --ckpt_path {last}{more}",
    }
    print_pairs("Next:", found | _with_model(folder, datamodule))


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
            found = {"how good it is": test} | _other_speed(module, used, predict) | _with_model(run, datamodule)
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


def _other_speed(module: Any, used: OperatingPoint, predict: str) -> dict[str, str]:
    """The command for the next faster stored speed-up than that of the point used, else for the full depth."""
    now = 1.0 if used.threshold == 0.0 or used.expected is None else used.expected.speedup
    stored = sorted(module.operating_points.get(module.policy.name, {}))
    faster = next((speedup for speedup in stored if speedup > max(now, 1.0) * 1.05), None)
    if faster is not None:
        return {f"{faster:g} times as fast": f"{predict} --speedup {faster:g}"}
    return {"all layers": f"{predict} --speedup 1"} if used.threshold else {}
