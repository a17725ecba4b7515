"""GEEP, FastBERT and joint training with all-MiniLM-L6-v2 on AG's News, SST-2 and IMDB, and on ChnSentiCorp.

    python benchmarks/geep.py run      # every task, recipe and seed that has no result yet
    python benchmarks/geep.py run --recipes geep --seeds 1 --save models    # keep the models, for `mebert bench`
    python benchmarks/geep_report.py   # the part of docs/results_small.md and the plot

ChnSentiCorp has no pretrained Chinese encoder here: one of the same size is trained from scratch, on characters. Sizes
are in `DATA` and `EPOCHS`. Data sets and weights come from the Hub (HF_ENDPOINT decides which one). One JSON a run in
benchmarks/results/geep/; a run that has one is skipped, so an interrupted comparison can be resumed. Two
commands in parallel share the work.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "geep"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
TASKS = ("ag_news", "sst2", "imdb", "chnsenticorp")
RECIPES = ("joint", "geep", "fastbert")
SEEDS = (1, 2, 3)
TARGETS = (1.5, 2.0, 3.0)
PREDICTED_AT = (2.0, 3.0)  # speed-ups by layers at which the exit is also predicted

# Small enough for forty runs on two cores. Where the public test labels are hidden (SST-2), or there is no validation
# split (AG's News, IMDB), nothing is chosen on the rows that are reported: nothing is tuned at all.
DATA: dict[str, dict[str, Any]] = {
    "ag_news": {"max_train_samples": 3000, "max_eval_samples": 2000, "max_length": 64, "holdout": 0.02},
    "sst2": {"max_train_samples": 9000, "max_length": 64, "holdout": 0.02},
    "imdb": {"max_train_samples": 1500, "max_eval_samples": 1000, "max_length": 128, "holdout": 0.02},
    "chnsenticorp": {"max_train_samples": 3200, "max_length": 64},
}
EPOCHS = {"ag_news": 2, "sst2": 2, "imdb": 2, "chnsenticorp": 3}
LEARNING_RATE = 1e-4
MODEL: dict[str, Any] = {"encoder": ENCODER, "learning_rate": LEARNING_RATE, "warmup_ratio": 0.06}
SCRATCH: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 128,
}


def make_module(recipe: str, task: str, num_labels: int, vocab_size: int) -> Any:
    """The module of a recipe; all read the hidden states as FastBERT and GEEP do."""
    from mebert.modules import FastBERTModule, GEEPModule, MultiExitModule

    settings = {**MODEL, "num_labels": num_labels}
    if task == "chnsenticorp":
        settings["encoder_config"] = {**SCRATCH, "vocab_size": vocab_size}
    if recipe == "fastbert":
        students: dict[str, Any] = {"stage1_epochs": EPOCHS[task], "student_learning_rate": 10 * LEARNING_RATE}
        return FastBERTModule(pooling="fastbert", **students, **settings)
    kind: Any = GEEPModule if recipe == "geep" else MultiExitModule
    return kind(pooling="fastbert", **settings)


def epochs_of(recipe: str, task: str) -> int:
    """FastBERT's second stage trains the students alone, as long as the first."""
    return EPOCHS[task] * (2 if recipe == "fastbert" else 1)


def character_tokenizer(folder: Path, rows: list[str]) -> str:
    """BERT's tokenizer over the characters that occur at least twice in the rows; returns the folder as a string."""
    from transformers import BertTokenizer

    counts = Counter(character for row in rows for character in row.lower() if not character.isspace())
    known = [character for character, count in counts.most_common() if count > 1]
    known += [f"##{c}" for c in known if c.isascii() and c.isalnum()]  # Latin words and numbers go on after a ##
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *known]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def make_data(task: str, seed: int, folder: Path) -> Any:
    """The data module of a task."""
    from mebert.data import TextDataModule

    tokenizer = ENCODER
    if task == "chnsenticorp":
        import datasets

        rows = datasets.load_dataset("lansinuote/ChnSentiCorp", split="train")["text"]
        tokenizer = character_tokenizer(folder, list(rows))
    settings = {"batch_size": 32, "eval_batch_size": 128, "seed": seed, **DATA[task]}
    return TextDataModule(task=task, tokenizer=tokenizer, **settings)


def one_run(task: str, recipe: str, seed: int, save: Path | None = None) -> dict[str, Any]:
    """Train and evaluate once: every exit, the curve of the entropy policy, and how well exits are predicted."""
    import lightning as L
    import torch
    from geep_prediction import prediction_figures
    from harness import curve_figures, exit_metrics, train

    L.seed_everything(seed, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(task, seed, Path(folder))
        module = make_module(recipe, task, data.num_labels, len(data.tokenizer))
        done = train(module, data, epochs_of(recipe, task))
    if save is not None:
        module.model.save_pretrained(save / f"{task}_{recipe}_{seed}", data.tokenizer, module.policy)
    (record,) = (record for name, record in done.records.items() if name in data.test_names)
    return {
        "task": task,
        "recipe": recipe,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "precision": done.precision,
        "train_seconds": round(done.seconds, 1),
        "train_rows": len(data.splits["train"]),
        "epochs": epochs_of(recipe, task),
        "exit_layers": list(module.model.exit_layers),
        "rows": len(record.labels),
        "tokens": float(record.lengths.float().mean()),
        "exits": exit_metrics(record, ("acc",))["acc"],
        **curve_figures(record, module, "entropy", "acc", TARGETS),
        "prediction": prediction_figures(module, data, record, PREDICTED_AT),
    }


def once(task: str, recipe: str, seed: int, save: Path | None = None) -> None:
    """Do a run that has no result yet and is not being done by another command."""
    from harness import run_once

    path = RESULTS / f"{task}_{recipe}_{seed}.json"
    result = run_once(path, lambda: one_run(task, recipe, seed, save))
    if result is not None:
        exits = " ".join(f"{100 * value:.1f}" for value in result["exits"])
        print(f"{path.stem}: {exits}; {result['train_seconds']:.0f} s", flush=True)


def load() -> dict[tuple[str, str, int], dict[str, Any]]:
    """(task, recipe, seed) to its result."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    return {(r["task"], r["recipe"], r["seed"]): r for r in results}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run",))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a folder for the trained models")
    args = parser.parse_args()
    from harness import threads

    threads(args.threads)
    for seed in args.seeds:  # seed by seed, so that whatever is finished is balanced
        for recipe in args.recipes:
            for task in args.tasks:
                once(task, recipe, seed, args.save)


if __name__ == "__main__":
    main()
