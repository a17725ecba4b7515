"""Answers that left at different exits are ranked together: does calibrating the exits' scores first raise MAP?

    python benchmarks/ranking.py run       # WikiQA with all-MiniLM-L6-v2, every seed that has no result yet
    python benchmarks/ranking.py report    # the table

Joint training on part of WikiQA, one pass over its validation and its test split. On the validation split a scale
(temperature scaling), or a scale and an offset (Platt 1999), are fitted to the relevance score ln(p_1 / p_0) of each
exit by logistic regression, and applied to the test split, at the exits that the policy takes at each speed-up by
layers. `fixed` is every answer at the same exit. Data and weights come from the Hub (HF_ENDPOINT decides which one).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from harness import metric_of, run_once, threads, train
from torch import Tensor

from mebert.metrics.at_speed import exits_at_speedup
from mebert.metrics.bootstrap import paired_bootstrap
from mebert.metrics.curve import ExitRecord
from mebert.metrics.record_files import save_record

RESULTS = Path(__file__).resolve().parent / "results" / "ranking"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SEEDS = (1, 2, 3)
SPEEDS = (1.0, 1.5, 2.0, 3.0)
POLICIES = ("entropy", "max_prob")
METRICS = ("map", "mrr", "p_at_1")
DATA: dict[str, Any] = {"task": "wikiqa", "max_train_samples": 623, "max_length": 64}  # questions, about 6,000 rows
MODEL: dict[str, Any] = {"encoder": ENCODER, "pooling": "mean", "learning_rate": 1e-4, "warmup_ratio": 0.06}
EPOCHS = 2


def fit_lines(record: ExitRecord, offset: bool) -> Tensor:
    """Scale and offset (E, 2) of each exit's relevance score, by logistic regression; the offset 0 without `offset`."""
    from scipy.optimize import minimize

    scores = (record.logits[..., 1] - record.logits[..., 0]).double().numpy()
    labels = (record.labels > 0).double().numpy()

    def loss(line: Any, score: Any) -> float:
        margin = line[0] * score + (line[1] if offset else 0.0)
        return float(torch.nn.functional.softplus(torch.from_numpy((1 - 2 * labels) * margin)).mean())

    lines = [minimize(loss, [1.0, 0.0], args=(score,), method="Nelder-Mead").x for score in scores]
    return torch.tensor([[a, b if offset else 0.0] for a, b in lines], dtype=torch.float64)


def calibrated(record: ExitRecord, lines: Tensor | None) -> Tensor:
    """Logits (E, N, 2) whose relevance score is that of the record on each exit's line."""
    if lines is None:
        return record.logits
    scores = (record.logits[..., 1] - record.logits[..., 0]).double() * lines[:, :1] + lines[:, 1:]
    return torch.stack([-scores / 2, scores / 2], dim=-1)


def figures(validation: ExitRecord, test: ExitRecord, layers: Sequence[int]) -> dict[str, Any]:
    """Metric to policy to kind of calibration to the value at each speed."""
    kinds = {"none": None, "scale": fit_lines(validation, offset=False), "line": fit_lines(validation, offset=True)}
    rows = torch.arange(len(test.labels))
    found: dict[str, Any] = {
        "gain": {},
        "lines": {kind: None if x is None else x.tolist() for kind, x in kinds.items()},
    }
    for metric in METRICS:
        value = metric_of(test, metric)
        at_exit = [value(z, test.labels) for z in test.logits]
        found[metric] = {"exits": at_exit}
        for policy in POLICIES:
            taken = {speed: exits_at_speedup(test.scores[policy], layers, speed) for speed in SPEEDS}
            found[metric][policy] = {
                kind: {
                    str(speed): None if exits is None else value(calibrated(test, lines)[exits, rows], test.labels)
                    for speed, exits in taken.items()
                }
                for kind, lines in kinds.items()
            }
            if metric == "map":
                attained = {speed: exits for speed, exits in taken.items() if exits is not None}
                gains = {str(speed): _gain(test, exits, rows, kinds["scale"]) for speed, exits in attained.items()}
                found["gain"][policy] = gains
        depth = {speed: sum(layer * speed <= layers[-1] for layer in layers) for speed in SPEEDS}
        found[metric]["fixed"] = {"none": {str(speed): at_exit[exits - 1] for speed, exits in depth.items()}}
    return found


def _gain(test: ExitRecord, exits: Tensor, rows: Tensor, lines: Tensor | None) -> list[float | None]:
    """What the scales add to MAP, with its paired bootstrap interval over questions."""
    before, after = test.logits[exits, rows], calibrated(test, lines)[exits, rows]
    found = paired_bootstrap("map", before, after, test.labels, test.queries)
    span = found.interval
    return [found.value, None if span is None else span.low, None if span is None else span.high]


def one_run(seed: int, records: Path | None) -> dict[str, Any]:
    """Train once, and compare the calibrations."""
    import lightning as L

    from mebert.data import TextDataModule
    from mebert.modules import MultiExitModule

    L.seed_everything(seed, verbose=False)
    data = TextDataModule(tokenizer=ENCODER, batch_size=32, eval_batch_size=128, seed=seed, **DATA)
    module = MultiExitModule(num_labels=data.num_labels, class_weights="balanced", **MODEL)
    done = train(module, data, EPOCHS)
    validation, test = (done.records[name] for name in (data.validation_names[0], data.test_names[0]))
    if records is not None:
        for name, record in (("validation", validation), ("test", test)):
            save_record(record, records / f"{seed}_{name}.safetensors", {"exit_layers": list(module.model.exit_layers)})
        module.choose_operating_points(validation, metric="map")
        read = {name: data.text_settings[name] for name in ("max_length", "num_texts")}
        module.model.save_pretrained(records / f"{seed}_model", data.tokenizer, module.policy, **read)
    sizes = {"train_rows": len(data.splits["train"]), "validation_rows": len(validation.labels)}
    return {"seed": seed, **sizes, "test_rows": len(test.labels), **figures(validation, test, module.model.exit_layers)}


def report() -> None:
    """Print the mean over seeds, and how many of them gain by each calibration."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    print(f"WikiQA, {len(runs)} seeds, {runs[0]['test_rows']} test rows; mean over seeds (seeds above none)")
    for metric in METRICS:
        for policy in (*POLICIES, "fixed"):
            base = runs[0][metric][policy]
            for kind in base:
                cells = []
                for speed in map(str, SPEEDS):
                    values = [run[metric][policy][kind][speed] for run in runs]
                    before = [run[metric][policy]["none"][speed] for run in runs]
                    more = sum(a > b for a, b in zip(values, before, strict=True))
                    cells.append(f"{statistics.mean(values):.4f} ({more})")
                print(f"{metric:7s} {policy:9s} {kind:6s} " + "  ".join(cells))
    for run in runs:
        for policy, gains in run["gain"].items():
            told = ", ".join(
                f"{speed}x {100 * v:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
                for speed, (v, low, high) in gains.items()
            )
            print(f"seed {run['seed']}, {policy}: points of MAP gained by the scales, 95 % interval: {told}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--records", type=Path, help="an existing folder for the recorded passes and the models")
    given = parser.parse_args()
    if given.command == "report":
        report()
    else:
        threads(given.threads)
        for seed in given.seeds:
            run_once(RESULTS / f"{seed}.json", lambda seed=seed: one_run(seed, given.records))  # type: ignore[misc]
