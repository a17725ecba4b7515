"""Train and compare multi-exit all-MiniLM-L6-v2 on MNLI, SNLI, SST-2 and MRPC; write its part of the appendix.

    python benchmarks/minilm.py run                 # every task, variant and seed that has no result yet
    python benchmarks/minilm.py run --tasks mrpc --seeds 1
    python benchmarks/minilm.py report              # docs/results_small.md and docs/results_de3.png from the results

Settings come from configs/de3/minilm_<task>.yaml, sizes from `DATA` and `EPOCHS` below; a variant changes only what
`VARIANTS` says. Data sets and weights come from the Hub (HF_ENDPOINT decides which one). One JSON a run in
benchmarks/results/minilm/; a run that has one is skipped, so that an interrupted comparison can be resumed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "minilm"
TASKS = ("mrpc", "sst2", "snli", "mnli")
SEEDS = (1, 2, 3)
TARGETS = (1.5, 2.0, 3.0)
POLICIES = ("entropy", "dr", "edr")

# A comparison of 60 runs has to fit two CPU cores and two hours: fewer rows and epochs than the configurations, which
# are for whole data sets, and rows held out of training for lambda where the public test labels are hidden.
DATA: dict[str, dict[str, Any]] = {
    "mrpc": {},
    "sst2": {"max_train_samples": 8000, "holdout": 0.03, "batch_size": 64},
    "snli": {"max_train_samples": 8000, "max_eval_samples": 3000, "batch_size": 64},
    "mnli": {"max_train_samples": 8000, "holdout": 0.1, "batch_size": 64},
}
EPOCHS = {"mrpc": 2, "sst2": 1, "snli": 1, "mnli": 1}

# Only what differs from the task's configuration.
VARIANTS: dict[str, dict[str, Any]] = {
    "de3": {},
    "no_dar": {"dar": "none"},
    "de3_cls": {"pooling": "cls"},
    "single": {"prototypes": False, "exit_layers": [6]},
    "dar_softmax": {"dar": "softmax"},
}


def train_and_test(task: str, variant: str, seed: int, threads: int) -> dict[str, Any]:
    """One run: fit, then one pass over each test split; everything that the report needs."""
    import lightning as L
    import torch
    import yaml

    from mebert.callbacks.recorder import ExitRecorder
    from mebert.data import TextDataModule
    from mebert.modules import ProtoExitModule
    from mebert.runtime.precision import pick_precision

    torch.set_num_threads(threads)
    L.seed_everything(seed)
    config = yaml.safe_load((ROOT / "configs" / "de3" / f"minilm_{task}.yaml").read_text(encoding="utf-8"))
    data_args = {**config["data"]["init_args"], **DATA[task]}
    model_args = {**config["model"]["init_args"], **VARIANTS[variant]}
    data = TextDataModule(**{"tokenizer": model_args["encoder"], **data_args, "seed": seed})
    module = ProtoExitModule(num_labels=data.num_labels, **model_args)
    precision: Any = pick_precision("cpu")[0]

    class Recorder(L.Callback):
        """Chooses the operating point on validation data and records the test splits."""

        def __init__(self) -> None:
            self.recorders: dict[tuple[str, int], ExitRecorder] = {}
            self.test: list[Any] = []

        def _add(self, stage: str, module: Any, outputs: Any, batch: Any, index: int) -> None:
            self.recorders.setdefault((stage, index), ExitRecorder()).update(outputs, batch, module.score_policies())

        def on_validation_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            if dataloader_idx == 0:
                self._add("val", module, outputs, batch, 0)

        def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
            module.choose_operating_points(self.recorders.pop(("val", 0)).gather(module), TARGETS)

        def on_test_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            self._add("test", module, outputs, batch, dataloader_idx)

        def on_test_epoch_end(self, trainer: Any, module: Any) -> None:
            self.test = [r.gather(module) for r in self.recorders.values()]

    recorder = Recorder()
    trainer = L.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=EPOCHS[task],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        callbacks=[recorder],
    )
    begin = time.perf_counter()
    trainer.fit(module, data)
    seconds = time.perf_counter() - begin
    trainer.test(module, datamodule=data, verbose=False)
    return {
        "task": task,
        "variant": variant,
        "seed": seed,
        "threads": threads,
        "precision": precision,
        "train_seconds": round(seconds, 1),
        "train_rows": len(data.splits["train"].index),
        "lam": getattr(module.policy, "lam", None),
        "splits": [evaluate(record, module, name) for record, name in zip(recorder.test, data.test_names, strict=True)],
    }


def evaluate(record: Any, module: Any, name: str) -> dict[str, Any]:
    """Figures of one test split.

    The threshold for "accuracy at 2x" is the one that gives 2x on these very texts. That needs no labels, so nothing
    of the answer leaks, and all policies are compared at the same speed; lambda was chosen on validation data.
    """
    import torch

    from mebert.metrics.curve import area_under_curve, oracle_exits, point_at, sweep, threshold_for_speedup
    from mebert.metrics.task import metric_value
    from mebert.models.flops import exit_flops, single_exit_flops
    from mebert.policies import HybridDistanceEntropy, hybrid_indicator, normalised_entropy

    layers = module.model.exit_layers
    costs = (exit_flops(module.model, record.lengths, module.policy), single_exit_flops(module.model, record.lengths))

    def metric(logits: torch.Tensor, labels: torch.Tensor) -> float:
        return metric_value("acc", logits, labels)

    result: dict[str, Any] = {
        "name": name,
        "rows": len(record.labels),
        "exits": [metric(record.logits[e], record.labels) for e in range(record.num_exits)],
        "policies": {},
    }
    if isinstance(module.policy, HybridDistanceEntropy):
        entropy = normalised_entropy(record.logits)
        record.scores["edr"] = hybrid_indicator(record.scores["dr"], entropy, module.policy.lam)
    for policy in POLICIES:
        if policy not in record.scores or record.num_exits == 1:
            continue
        points = sweep(record, policy, layers, *costs, metric, num_points=60)
        at: dict[str, float | None] = {}
        for target in TARGETS:
            threshold = threshold_for_speedup(record.scores[policy], layers, target)
            at[str(target)] = (
                None if threshold is None else point_at(record, policy, threshold, layers, *costs, metric).metric
            )
        result["policies"][policy] = {
            "area": area_under_curve(points),
            "at": at,
            "curve": [[round(p.speedup_layers, 4), round(p.metric, 5)] for p in points],
        }
    if record.num_exits > 1:
        oracle = point_at(record, "oracle", 0.0, layers, *costs, metric, exits=oracle_exits(record))
        result["oracle"] = {"metric": oracle.metric, "speedup_layers": oracle.speedup_layers}
    return result


def run(tasks: list[str], variants: list[str], seeds: list[int], threads: int) -> None:
    """All runs without a result, seed by seed, so that whatever is finished is balanced."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for task in tasks:
            for variant in variants:
                path = RESULTS / f"{task}_{variant}_{seed}.json"
                if path.exists():
                    continue
                result = train_and_test(task, variant, seed, threads)
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps(result) + "\n", encoding="utf-8")
                partial.rename(path)
                exits = " ".join(f"{100 * a:.1f}" for a in result["splits"][0]["exits"])
                print(f"{task} {variant} seed {seed}: exits {exits}; {result['train_seconds']:.0f} s", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    runs.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    runs.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    runs.add_argument("--threads", type=int, default=2)
    commands.add_parser("report")
    args = parser.parse_args()
    if args.command == "run":
        run(args.tasks, args.variants, args.seeds, args.threads)
    else:
        from minilm_report import write_report

        write_report(RESULTS, ROOT / "docs")


if __name__ == "__main__":
    main()
