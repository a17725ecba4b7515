"""Early exit against the first k layers alone at equal wall clock, where docs/results.md has equal layers.

    python benchmarks/recipe_first_clock.py --only task=snli --seed 2     # on an idle machine, some minutes a task

Reads the models of the recommended recipe, first_3 and first_2 that `recipe.py run --config
configs/study/recipe_full.yaml` has left on this machine. `EarlyExitClassifier` classifies all texts of the test split,
tokenising included: with the first k layers alone, and by early exit (engine `refill`) at thresholds for some speed-ups
by layers; in turn, in one process, three times over. One small result a task in benchmarks/results/recipe_first_clock/.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from recipe_clock import BATCH, write_each
from recipe_headline import FIRST_LAYERS
from recipe_paired import RECOMMENDED

from mebert import EarlyExitClassifier, TextDataModule
from mebert.commands.bench.output import cpu_name
from mebert.commands.bench.timing import time_in_turn
from mebert.data.loaders import open_split
from mebert.exit_predictor.fitting import score_rows
from mebert.metrics.curve import threshold_for_speedup

SPEEDS = (1.0, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0, 3.5, 4.0)  # by layers
ROUNDS = 3


def timed(classify: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    """The seconds that a way to classify the texts takes, and what it answers."""
    start = time.perf_counter()
    answers = classify()
    return time.perf_counter() - start, answers


def measure(cell: Any, threads: int, precision: Any) -> dict[str, Any]:
    """One task and seed: seconds, accuracy and layers of each way to answer its test texts."""
    torch.set_num_threads(threads)
    given, study = cell.config["data"]["init_args"], cell.folder.parent.parent
    folders = {arm: study / arm / cell.folder.name / "model" for arm in (RECOMMENDED, *FIRST_LAYERS.values())}
    opened = {arm: EarlyExitClassifier.from_pretrained(path, None, precision) for arm, path in folders.items()}
    data = TextDataModule(tokenizer=str(folders[RECOMMENDED]), **given)
    split = open_split(data, "test")
    assert split.labels is not None
    columns = list(data.texts("test", range(len(split))).values())
    texts = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    own = opened[RECOMMENDED]
    policy = own.choose_policy()
    scores = score_rows(own.model, policy, split).scores
    found = {f"{speed:g}x": threshold_for_speedup(scores, own.exit_layers, speed) for speed in SPEEDS}
    thresholds = {name: threshold for name, threshold in found.items() if threshold is not None}
    ways = {
        name: partial(own, texts, threshold=at, engine="refill", batch_size=BATCH) for name, at in thresholds.items()
    }
    ways |= {arm: partial(opened[arm], texts, speedup=1.0, batch_size=BATCH) for arm in FIRST_LAYERS.values()}
    measured = {}
    rounds = time_in_turn([partial(timed, way) for way in ways.values()], ROUNDS)
    for name, runs in zip(ways, rounds, strict=True):
        answers = runs[0][1]
        layers = opened.get(name, own).exit_layers
        right = [own.label_names[int(label)] == one.label for label, one in zip(split.labels, answers, strict=True)]
        measured[name] = {
            "seconds": round(statistics.median(seconds for seconds, _ in runs), 3),
            "accuracy": round(statistics.mean(right), 5),
            "layers": round(statistics.mean(layers[one.exit - 1] for one in answers), 3),
        }
    about = {"task": cell.task, "seed": cell.seed, "rows": len(split), "batch_size": BATCH, "precision": own.precision}
    return about | {"threads": threads, "device": f"cpu, {cpu_name()}", "ways": measured}


if __name__ == "__main__":
    write_each(__doc__, "recipe_first_clock", measure, (RECOMMENDED, *FIRST_LAYERS.values()))
