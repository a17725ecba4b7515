"""The recommended recipe by the clock: early exit against full depth and against the first k layers alone.

    python benchmarks/recipe_clock.py --seed 2     # on an idle machine, up to a quarter of an hour a task

Reads the models of the recommended recipe and, where they are, of first_3 and first_2 that `recipe.py run --config
configs/study/recipe_full.yaml` has left on this machine. `EarlyExitClassifier` classifies all texts of the test split
as `predict` does, tokenising included: at full depth, where no exit is asked on the way, by early exit at thresholds
for some speed-ups by layers, and with the first k layers alone; in turn, in one process; the fastest of some rounds
counts. One small result a task in benchmarks/results/recipe_clock/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from recipe import RESULTS, ROOT, cells
from recipe_headline import FIRST_LAYERS
from recipe_paired import RECOMMENDED

from mebert import EarlyExitClassifier, TextDataModule
from mebert.commands.bench.output import cpu_name
from mebert.commands.bench.timing import time_in_turn
from mebert.data.loaders import open_split
from mebert.exit_predictor.fitting import score_rows
from mebert.metrics.curve import threshold_for_speedup

FULL = ROOT / "configs" / "study" / "recipe_full.yaml"
SPEEDS = (1.5, 2.0, 2.25, 2.5, 3.0, 3.5, 4.0, 5.0)  # by layers
BATCH = 128


def timed(classify: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    """The seconds that a way to classify the texts takes, and what it answers."""
    start = time.perf_counter()
    answers = classify()
    return time.perf_counter() - start, answers


def measure(cell: Any, threads: int, precision: Any, rounds: int) -> dict[str, Any]:
    """One task and seed: seconds, accuracy and layers of each way to answer its test texts."""
    torch.set_num_threads(threads)
    given, study = cell.config["data"]["init_args"], cell.folder.parent.parent
    every = {arm: study / arm / cell.folder.name / "model" for arm in (RECOMMENDED, *FIRST_LAYERS.values())}
    folders = {arm: folder for arm, folder in every.items() if folder.exists()}
    opened = {arm: EarlyExitClassifier.from_pretrained(path, None, precision) for arm, path in folders.items()}
    data = TextDataModule(tokenizer=str(folders[RECOMMENDED]), **given)
    split = open_split(data, "test")
    assert split.labels is not None
    columns = list(data.texts("test", range(len(split))).values())
    texts = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    own = opened[RECOMMENDED]
    scores = score_rows(own.model, own.choose_policy(), split).scores
    found = {f"{speed:g}x": threshold_for_speedup(scores, own.exit_layers, speed) for speed in SPEEDS}
    thresholds = {"1x": 0.0} | {name: threshold for name, threshold in found.items() if threshold is not None}
    ways = {name: partial(own, texts, threshold=at, batch_size=BATCH) for name, at in thresholds.items()}
    ways |= {arm: partial(opened[arm], texts, speedup=1.0, batch_size=BATCH) for arm in folders if arm != RECOMMENDED}
    measured = {}
    taken = time_in_turn([partial(timed, way) for way in ways.values()], rounds)
    for name, runs in zip(ways, taken, strict=True):
        answers = runs[0][1]
        layers = opened.get(name, own).exit_layers
        right = [own.label_names[int(label)] == one.label for label, one in zip(split.labels, answers, strict=True)]
        measured[name] = {
            "seconds": round(min(seconds for seconds, _ in runs), 3),
            "accuracy": round(statistics.mean(right), 5),
            "layers": round(statistics.mean(layers[one.exit - 1] for one in answers), 3),
        }
    about = {"task": cell.task, "seed": cell.seed, "rows": len(split), "batch_size": BATCH, "precision": own.precision}
    return about | {"threads": threads, "rounds": rounds, "device": f"cpu, {cpu_name()}", "ways": measured}


def main() -> None:
    """The command line: one result for each task whose models are on this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="such as task=snli")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    settings = parser.parse_args()
    for cell in cells(FULL, [f"recipe={RECOMMENDED}", f"seed={settings.seed}", *settings.only]):
        if (cell.folder / "model").exists():
            path = RESULTS / "recipe_clock" / f"{cell.task}.json"
            found = measure(cell, settings.threads, settings.precision, settings.rounds)
            path.write_text(json.dumps(found) + "\n", encoding="utf-8")
            print(path.read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    main()
