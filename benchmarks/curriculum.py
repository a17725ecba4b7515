"""Curriculum learning and distillation between exits, with all-MiniLM-L6-v2 on entailment and answer selection.

    python benchmarks/curriculum.py tune     # settings of the distillation, and the curriculum, on validation data
    python benchmarks/curriculum.py run      # every task, training, curriculum and seed that has no result yet
    python benchmarks/curriculum_report.py   # the part of docs/results_small.md and the plot

Sizes are in `DATA` and `EPOCHS` below; `DISTILLATION` and `CURRICULA` are what `tune` compares. Data sets and
weights come from the Hub (HF_ENDPOINT decides which one). One JSON a run in benchmarks/results/curriculum/; a run that
has one is skipped, so an interrupted comparison can be resumed. Two commands in parallel share the work.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "curriculum"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
TASKS = ("rte", "snli", "mrpc", "wikiqa", "scitail", "qnli")
SEEDS = (1, 2, 3)
FEWER_SEEDS = {"scitail": (1, 2), "qnli": (1, 2)}
TARGETS = (1.5, 2.0, 3.0)

# Small enough for a hundred runs on two cores. Rows are held out of training for choices where the public test labels
# are hidden (RTE, SciTail, QNLI).
DATA: dict[str, dict[str, Any]] = {
    "rte": {"max_train_samples": 1200, "holdout": 0.1, "max_length": 64},
    "snli": {"max_train_samples": 4500, "max_eval_samples": 2000, "max_length": 64},
    "mrpc": {"max_train_samples": 1500, "max_length": 64},
    "wikiqa": {"max_train_samples": 306, "max_eval_samples": 204, "max_length": 64},  # questions: 3,002 and 2,018 rows
    "scitail": {"max_train_samples": 1800, "max_length": 64, "holdout": 0.12},
    "qnli": {"max_train_samples": 2500, "max_length": 64, "holdout": 0.1},
}
EPOCHS = 2
MODEL: dict[str, Any] = {"encoder": ENCODER, "pooling": "mean", "learning_rate": 1e-4, "warmup_ratio": 0.06}
# One right answer in about twenty: without weights the shallow exits call everything wrong.
TASK_MODEL: dict[str, dict[str, Any]] = {"wikiqa": {"class_weights": "balanced"}}

# What `tune` compares for every kind of distillation: RomeBERT's weight and temperature, milder ones, features, exits
# weighted by their depth.
DISTILLATION: dict[str, dict[str, Any]] = {
    "rome": {"logit_weight": 0.9, "temperature": 3.0},
    "half": {"logit_weight": 0.5, "temperature": 2.0},
    "half_depth": {"logit_weight": 0.5, "temperature": 2.0, "exit_weights": "depth"},
    "half_features": {"logit_weight": 0.5, "temperature": 2.0, "feature_weight": 0.1},
    "features": {"logit_weight": 0.0, "feature_weight": 0.1},
    "strong_features": {"logit_weight": 0.5, "temperature": 2.0, "feature_weight": 1.0},
}
ONLY_VANILLA = ("features", "strong_features")  # what gains nothing there is not tried twice
TUNED_ON = ("snli", "wikiqa")  # in these small sizes the exits of the other two differ by little but chance
# What `tune` compares as curriculum: measure, pacing and further settings of the data module.
ROOT_HALF, ROOT_LONG = ("RootCompetence", {"until": 0.5}), ("RootCompetence", {"until": 0.9})
CURRICULA: dict[str, dict[str, Any]] = {
    "length_root_balanced": {"difficulty": "Length", "pacing": ROOT_HALF},
    "loss_root_balanced": {"difficulty": "Loss", "initial": "Length", "pacing": ROOT_LONG},
    "review_root_balanced": {"difficulty": "CrossReview", "pacing": ROOT_HALF},
    # All classes ranked together.
    "length_root": {"difficulty": "Length", "pacing": ROOT_HALF, "within_class": False},
    "rarity_root": {"difficulty": "WordRarity", "pacing": ROOT_HALF, "within_class": False},
    "loss_root": {"difficulty": "Loss", "initial": "Length", "pacing": ROOT_LONG, "within_class": False},
    "depth_steps": {
        "difficulty": "ExitDepth", "initial": "Length", "pacing": ("BabySteps", {"until": 0.9}), "within_class": False,
    },
    "wrongness_hard": {
        "difficulty": "ExitErrorRate", "direction": "hard_first", "pacing": None, "within_class": False,
    },
    "review_root": {"difficulty": "CrossReview", "pacing": ROOT_HALF, "within_class": False},
    "review_annealing": {
        "difficulty": "CrossReview", "pacing": ("Annealing", {"until": 0.5}), "within_class": False,
    },
}  # fmt: skip


def trainings(kinds: Any = ("vanilla", "layerwise", "both")) -> dict[str, dict[str, Any]]:
    """Name to settings of the module: joint training, and every kind of distillation with every setting."""
    named: dict[str, dict[str, Any]] = {
        "joint": {"distillation": "none"},
        "joint-depth": {"distillation": "none", "exit_weights": "depth"},
    }
    for kind in kinds:
        named |= {f"{kind}-{name}": {"distillation": kind, **more} for name, more in DISTILLATION.items()}
    return named


def make_data(task: str, seed: int, curriculum: str | None) -> Any:
    """The data module of a task, with or without one of `CURRICULA`."""
    import mebert.curriculum as parts
    from mebert.data import TextDataModule

    settings = {
        "task": task,
        "tokenizer": ENCODER,
        "batch_size": 32,
        "eval_batch_size": 128,
        "seed": seed,
        **DATA[task],
    }
    if curriculum is None:
        return TextDataModule(**settings)
    chosen = dict(CURRICULA[curriculum])
    for name in ("difficulty", "initial"):
        if name in chosen:
            chosen[name] = getattr(parts, chosen[name])()
    if chosen["pacing"] is not None:
        pacing, more = chosen["pacing"]
        chosen["pacing"] = getattr(parts, pacing)(**more)
    return parts.CurriculumDataModule(**chosen, **settings)


def one_run(task: str, training: str, curriculum: str | None, seed: int) -> dict[str, Any]:
    """Train and evaluate once; the figures of the validation and test splits."""
    import lightning as L
    import torch
    from harness import curve_figures, exit_metrics, train

    from mebert.modules import CurriculumDistillModule

    L.seed_everything(seed, verbose=False)
    data, settings = make_data(task, seed, curriculum), trainings()[training]
    module = CurriculumDistillModule(num_labels=data.num_labels, **{**MODEL, **TASK_MODEL.get(task, {}), **settings})
    done = train(module, data, EPOCHS)
    result: dict[str, Any] = {
        "task": task,
        "training": training,
        "curriculum": curriculum,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "precision": done.precision,
        "train_seconds": round(done.seconds, 1),
        "train_rows": len(data.splits["train"]),
        "metrics": list(data.metrics),
        "settings": settings,
        "splits": {},
    }
    for name, record in done.records.items():
        result["splits"][name] = {
            "rows": len(record.labels),
            "exits": exit_metrics(record, data.metrics),
            **curve_figures(record, module, "entropy", data.metrics[0], TARGETS),
        }
    return result


def once(task: str, training: str, curriculum: str | None, seed: int) -> None:
    """Do a run that has no result yet and is not being done by another command."""
    from harness import run_once

    path = RESULTS / f"{task}_{training}_{curriculum or 'plain'}_{seed}.json"
    result = run_once(path, lambda: one_run(task, training, curriculum, seed))
    if result is not None:
        exits = " ".join(f"{100 * value:.1f}" for value in result["splits"]["val"]["exits"][result["metrics"][0]])
        print(f"{path.stem}: val {exits}; {result['train_seconds']:.0f} s", flush=True)


def load() -> dict[tuple[str, str, str | None, int], dict[str, Any]]:
    """(task, training, curriculum, seed) to its result."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    return {(r["task"], r["training"], r["curriculum"], r["seed"]): r for r in results}


def tune(seed: int) -> None:
    """Settings of the distillation, and curricula: one seed, two tasks, judged on validation data alone."""
    for training, curriculum in [
        ("joint-depth", None),
        *((training, None) for training in trainings(("vanilla", "layerwise")) if not _tried(training)),
        *(("joint", name) for name in CURRICULA),
    ]:
        for task in TUNED_ON:
            once(task, training, curriculum, seed)


def _tried(training: str) -> bool:
    kind, _, name = training.partition("-")
    return kind == "layerwise" and name in ONLY_VANILLA


def gains(
    results: dict[Any, Any], training: str, curriculum: str | None, tasks: list[str], seed: int
) -> dict[str, float]:
    """Task to the gain over joint training without a curriculum, on validation data: the mean over all exits."""

    def value(run: dict[str, Any]) -> float:
        exits: list[float] = run["splits"]["val"]["exits"][run["metrics"][0]]
        return statistics.mean(exits)

    found = {}
    for task in tasks:
        run, plain = results.get((task, training, curriculum, seed)), results.get((task, "joint", None, seed))
        if run is not None and plain is not None:
            found[task] = value(run) - value(plain)
    return found


def choose(results: dict[Any, Any], seed: int = SEEDS[0]) -> dict[str, str]:
    """The setting of each kind of distillation, and the curriculum: the best mean gain on validation data."""

    def mean_gain(training: str, curriculum: str | None) -> float:
        found = gains(results, training, curriculum, list(TUNED_ON), seed)
        return statistics.mean(found.values()) if found else float("-inf")

    best = {
        kind: max((f"{kind}-{name}" for name in DISTILLATION), key=lambda training: mean_gain(training, None))
        for kind in ("vanilla", "layerwise")
    }
    return {
        **best,
        "both": f"both-{best['layerwise'].removeprefix('layerwise-')}",
        "curriculum": max(CURRICULA, key=lambda name: mean_gain("joint", name)),
    }


def run(tasks: list[str], seeds: list[int]) -> None:
    """The comparison with what `tune` chose, seed by seed, so that whatever is finished is balanced."""
    chosen = choose(load())
    print(f"chosen on validation data: {chosen}", flush=True)
    for seed in seeds:
        for curriculum in (None, chosen["curriculum"]):
            for training in ("joint", chosen["vanilla"], chosen["layerwise"], chosen["both"]):
                for task in (task for task in tasks if seed in FEWER_SEEDS.get(task, SEEDS)):
                    once(task, training, curriculum, seed)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("tune", "run"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from harness import threads

    threads(args.threads)
    if args.command == "tune":
        tune(args.seeds[0])
    else:
        run(args.tasks, args.seeds)


if __name__ == "__main__":
    main()
