"""Long texts: windows (`data.stride`) against truncation, at equal cost.

    python benchmarks/long_documents.py run       # IMDB with all-MiniLM-L6-v2, what has no result yet; several may run
    python benchmarks/long_documents.py report    # the tables

Joint training on 500 reviews, and one pass over 600 test reviews for each way to read them: cut at 128 or at 256
tokens, or in windows of 128 that overlap by 32, by a model trained in the same way or by the one that was trained on
texts cut at 128. For each budget of FLOPs a text, on average, the threshold of entropy is the one that spends the most
within it on these very rows, which needs no labels; so all are compared at the same cost. Data and weights come from
the Hub (HF_ENDPOINT decides which one).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from harness import run_once, threads, train

from mebert.metrics.curve import ExitRecord, replay

RESULTS = Path(__file__).resolve().parent / "results" / "long_documents"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DATA: dict[str, Any] = {"task": "imdb", "max_train_samples": 500, "max_eval_samples": 600, "tokenizer": ENCODER}
MODEL: dict[str, Any] = {"encoder": ENCODER, "pooling": "mean", "learning_rate": 1e-4, "warmup_ratio": 0.06}
EPOCHS = 2
WINDOWS = {"max_length": 128, "stride": 32}
# How texts are read in training: name to how they are read in the test, by name.
TRAINED: dict[str, dict[str, Any]] = {
    "cut at 128": {"max_length": 128},
    "cut at 256": {"max_length": 256},
    "windows of 128": WINDOWS,
}
ALSO = {"cut at 128": {"cut at 128, read in windows": WINDOWS}}


def accuracy_within(record: ExitRecord, costs: torch.Tensor, budget: float) -> float | None:
    """Accuracy where entropy spends at most the budget a text on average, of costs (E, N); None where it cannot."""
    scores = record.scores["entropy"]
    rows = torch.arange(len(record.labels))
    best = None
    for threshold in [float("inf"), *scores[:-1].unique().flip(0).tolist()]:  # ever deeper
        exits = replay(scores, threshold)
        if float(costs[exits, rows].mean()) > budget:
            break
        best = exits
    return None if best is None else float((record.logits[best, rows].argmax(-1) == record.labels).double().mean())


def measured(module: Any, read: dict[str, Any]) -> dict[str, Any]:
    """One pass over the test texts: accuracy and cost of each exit, and accuracy at budgets."""
    from mebert.data import TextDataModule
    from mebert.inference import prepare_model
    from mebert.inference.record import record_rows
    from mebert.models.flops import exit_flops, single_exit_flops
    from mebert.policies import Entropy
    from mebert.runtime.precision import pick_precision

    data = TextDataModule(**DATA, **read)
    data.setup("test")
    rows, precision = data.split("test"), pick_precision("cpu")[0]
    fast = prepare_model(module.model, "bfloat16" if precision.startswith("bf16") else "float32")
    record = record_rows(fast, [Entropy()], rows, data.collate_for(), batch_size=32)
    module.model.window = data.window
    costs = exit_flops(module.model, record.lengths, Entropy()) / 1e9
    right = (record.logits.argmax(-1) == record.labels).double().mean(1)
    return {
        "tokens": float(record.lengths.double().mean()),
        "exits": right.tolist(),
        "exit_gflops": costs.mean(1).tolist(),
        "plain_gflops": float(single_exit_flops(module.model, record.lengths).mean() / 1e9),
        "at": {str(budget): accuracy_within(record, costs, budget) for budget in BUDGETS},
    }


BUDGETS = (0.75, 1.5, 2.5, 3.5, 5.0, 7.5)  # GFLOPs a text


def one_run(name: str, seed: int) -> dict[str, Any]:
    """Train once, and read the test texts in each way that this training has."""
    import lightning as L

    from mebert.data import TextDataModule
    from mebert.modules import MultiExitModule

    L.seed_everything(seed, verbose=False)
    parts = 4 if "stride" in TRAINED[name] else 1  # of a step of 16 reviews, whose windows are in memory together
    data = TextDataModule(batch_size=16 // parts, seed=seed, holdout=0.01, **DATA, **TRAINED[name])
    module = MultiExitModule(num_labels=data.num_labels, **MODEL)
    done = train(module, data, EPOCHS, splits=(), accumulate=parts)
    ways = {name: TRAINED[name], **ALSO.get(name, {})}
    found = {way: measured(module, read) for way, read in ways.items()}
    return {"seed": seed, "train_seconds": done.seconds, "ways": found}


def report() -> None:
    """Print accuracy at full depth with its cost, and accuracy at each budget; means over seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        for way, values in json.loads(path.read_text(encoding="utf-8"))["ways"].items():
            found.setdefault(way, []).append(values)
    for way, runs in found.items():
        full = statistics.mean(run["exits"][-1] for run in runs)
        cost = statistics.mean(run["plain_gflops"] for run in runs)
        cells = []
        for budget in map(str, BUDGETS):
            values = [run["at"][budget] for run in runs]
            cells.append("    -" if None in values else f"{100 * statistics.mean(values):5.1f}")
        print(f"{way:28s} {len(runs)} seeds, full depth {100 * full:.1f} at {cost:.2f} GFLOPs | {' '.join(cells)}")
    print(f"accuracy within GFLOPs a text: {', '.join(map(str, BUDGETS))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--seeds", type=int, nargs="*", default=(1, 2, 3))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.command == "report":
        report()
    else:
        threads(given.threads)
        for seed in given.seeds:
            for name in TRAINED:
                path = RESULTS / f"{name.replace(' ', '_')}_{seed}.json"
                run_once(path, lambda name=name, seed=seed: one_run(name, seed))  # type: ignore[misc]
