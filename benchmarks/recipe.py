"""The search for a recipe: its cells one by one, each with a small result in the repository as soon as it is done.

    python benchmarks/recipe.py run                    # the screen: configs/study/recipe_screen.yaml
    python benchmarks/recipe.py run --only recipe=joint,self task=snli
    python benchmarks/recipe.py run --config configs/study/recipe_full.yaml
    python benchmarks/recipe.py report                 # docs/results.md, docs/recipe.md, README's table

Run it from the repository's root; it may be stopped at any time, and the same command goes on. A cell is a run of
`mebert study` (a process of its own, which resumes) in runs/studies/<study>; afterwards its figures go to
benchmarks/results/<study>/ and its checkpoints away. A cell that has figures there is skipped. Data sets and weights
come from the Hub (HF_ENDPOINT decides which one). Two commands in parallel share the work.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SCREEN = ROOT / "configs" / "study" / "recipe_screen.yaml"
SPEEDS = (1.5, 2.0, 3.0)
PER_EXIT = ("entropy", "edr", "stacked")  # rules that are tried with a threshold of each exit's own, too


def cells(config: Path, only: Sequence[str] | None) -> list[Any]:
    """The cells of a study that `only` selects, arm by arm."""
    import yaml

    from mebert.commands.study.settings import Study, cells_of, select

    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    parts = {key: content.get(key) for key in ("base", "tasks", "recipes")}
    study = Study.checked(content["name"], None, content["seeds"], content["base"]["curve"]["points"], "all", **parts)
    found = select(cells_of(study), only)
    arms = list(study.recipes)
    return sorted(found, key=lambda cell: (cell.seed, arms.index(cell.recipe)))  # stable: tasks stay in their order


def result_path(cell: Any) -> Path:
    """Where a cell's figures go; its folder is runs/studies/<study>/<task>/<recipe>/seed_<n>."""
    study: str = cell.folder.parents[2].name
    return RESULTS / study / f"{cell.task}_{cell.recipe}_{cell.seed}.json"


def run(config: Path, only: Sequence[str] | None, threads: int) -> None:
    """Run and collect what has no result yet; a cell that fails is reported, and the next one begins."""
    every = cells(config, None)
    for cell in cells(config, only):
        if not result_path(cell).exists():
            make_models(cell, every, threads)
            run_one(cell, threads)


def make_models(cell: Any, every: Sequence[Any], threads: int) -> None:
    """Make what a cell reads of other runs, as teacher or as a start, where it is not on this machine."""
    import recipe_start

    given = cell.config["model"]["init_args"]
    wanted = [Path(given[name]) for name in ("teacher", "encoder") if str(given.get(name, "")).startswith("runs/")]
    for path in (path for path in wanted if not path.exists()):
        if path.name == "start":
            recipe_start.make(path)
        else:
            run_one(next(other for other in every if other.folder == path.parent), threads)


def run_one(cell: Any, threads: int) -> None:
    """Run a cell, or go on with it, and write its figures."""
    from mebert.commands.study.run_cells import run_cell

    done = run_cell(cell, threads, "all", Path.cwd())
    if isinstance(done, str):
        print(done, flush=True)
        return
    result = figures(cell, done)
    result_path(cell).parent.mkdir(parents=True, exist_ok=True)
    partial = result_path(cell).with_suffix(".partial")
    partial.write_text(json.dumps(result) + "\n", encoding="utf-8")
    partial.replace(result_path(cell))
    keep_model(cell, done)
    exits = " ".join(f"{100 * value:.1f}" for value in result["exits"])
    print(f"{cell.name}: exits {exits}; {result['seconds']:.0f} s", flush=True)


def keep_model(cell: Any, done: Any) -> None:
    """Put the model where others find it, `<cell>/model`, and remove the checkpoints, which refer to it."""
    place, model = cell.folder / "model", done.run / "model"
    if model.exists():
        shutil.rmtree(place, ignore_errors=True)
        shutil.move(model, place)
    shutil.rmtree(done.run / "checkpoints", ignore_errors=True)


def figures(cell: Any, done: Any) -> dict[str, Any]:
    """The figures of a finished cell; rules are fitted and chosen on validation rows, test rows are read once."""
    import platform

    import torch

    from mebert.models import MultiExitModel

    given = cell.config["data"]["init_args"]
    place = next(path for path in (done.run / "model", cell.folder / "model") if path.exists())
    return {
        "task": cell.task,
        "arm": cell.recipe,
        "seed": cell.seed,
        "model": cell.config["model"],
        "epochs": cell.config["trainer"]["max_epochs"],
        "train_rows": given["max_train_samples"],
        "precision": cell.config["trainer"]["precision"],
        "device": f"CPU ({platform.machine()}), 1 thread",
        "torch": torch.__version__,
        "seconds": round(done.seconds),
        **rules(MultiExitModel.from_pretrained(str(place)), *records(done), cell.config["curve"]["points"]),
    }


def records(done: Any) -> tuple[Any, Any]:
    """What a run recorded on the test rows and, from its checkpoint or the file that was made of it, on validation."""
    from mebert.metrics.record_files import load_record, record_from_tensors, save_record
    from mebert.storage.checkpoints import read_checkpoint
    from mebert.storage.run_folder import RunFolder

    folder, kept = RunFolder(done.run), done.run / "validation.safetensors"
    if not kept.exists():
        checkpoint = read_checkpoint(folder.checkpoint("best"))
        save_record(record_from_tensors(checkpoint["mebert"]["validation_record"]), kept, {})
    return load_record(folder.outputs)[0], load_record(kept)[0]


def rules(model: Any, test: Any, validation: Any, speeds: Sequence[float] = SPEEDS) -> dict[str, Any]:
    """The exits' accuracies, and every rule's at speed-ups by layers and its area, on validation and on test rows.

    A threshold is the one that gives the speed on the rows themselves, which needs no labels. Of the rules in
    `KEPT`, `right` keeps each test row's answer, for paired tests.
    """
    from recipe_paired import KEPT, pack
    from recipe_rules import per_exit_figures, right, right_at

    from mebert.policies import Entropy
    from mebert.report.comparison import compare_policies

    def exits(record: Any) -> list[float]:
        return [round(float((x.argmax(-1) == record.labels).double().mean()), 5) for x in record.logits]

    found: dict[str, Any] = {"test_rows": len(test.labels), "val_rows": len(validation.labels)}
    found |= {"exits": exits(test), "val_exits": exits(validation), "layers": list(model.exit_layers), "rules": {}}
    found["right"] = {"last": pack(right(test, test.index * 0 + len(model.exit_layers) - 1))}
    if len(model.exit_layers) == 1:
        return found
    own = Entropy().bind(model)
    on_test = compare_policies(model, test, "acc", speeds, own, validation)
    on_val = compare_policies(model, validation, "acc", speeds, own, validation)
    for name, result in on_test.items():
        both = {"area": result.area, "at": result.as_dict()["at"]}
        found["rules"][name] = both | {"val_area": result.val_area, "val_at": on_val[name].as_dict()["at"]}
    for name in PER_EXIT:
        found["rules"][f"{name}, per exit"] = per_exit_figures(name, validation, test, model.exit_layers, speeds)
    for name in KEPT:
        if name in on_test:
            rows = {f"{speed:g}": right_at(test, name, model.exit_layers, speed) for speed in speeds}
            found["right"][name] = {speed: pack(likely) for speed, likely in rows.items()}
    return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 5))  # type: ignore[no-any-return]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--config", type=Path, default=SCREEN)
    parser.add_argument("--only", nargs="+", help="such as recipe=joint,self task=snli seed=1")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.command == "run":
        run(given.config, given.only, given.threads)
    else:
        from results_page import write_page

        write_page()


if __name__ == "__main__":
    main()
