r"""One threshold for all exits against one for each: accuracy on test rows, chosen on validation rows.

    for task in snli sst2; do python -m mebert fit --experiment $task --model mebert.ProtoExitModule \
        --model.encoder sentence-transformers/all-MiniLM-L6-v2 --model.pooling mean --model.learning_rate 1e-4 \
        --model.warmup_ratio 0.06 --data mebert.TextDataModule --data.task $task --data.max_train_samples 8000 \
        --data.batch_size 32 --data.max_length 64 --trainer.max_epochs 2 --trainer.check_val_every_n_epoch 2 \
        --trainer.precision bf16-mixed; done
    python benchmarks/per_exit.py runs/snli/version_0
    python benchmarks/per_exit.py runs/sst2/version_0 sst2_test.jsonl    # text and label; GLUE hides its test labels

Prints, for each policy and speed-up by layers, both accuracies and their difference at the same speed on the test rows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mebert.calibration import threshold_for_drop
from mebert.calibration.per_exit import search_by_layers, thresholds_for_drop
from mebert.calibration.points import ROUNDING
from mebert.data.loaders import open_split
from mebert.data.model_rows import file_data, trained_length
from mebert.inference import prepare_model, prepare_policy
from mebert.inference.record import record_rows
from mebert.metrics.at_speed import bracket_speedup
from mebert.metrics.curve import ExitRecord, replay, speedup_layers
from mebert.metrics.record_files import load_record, record_from_tensors
from mebert.models import MultiExitModel
from mebert.policies import DistanceRatio, Entropy, MaxProbability
from mebert.storage.checkpoints import read_checkpoint

SPEEDUPS = (1.3, 1.5, 2, 2.5, 3, 4)
MAX_DROP = 0.005


def accuracy(record: ExitRecord, exits: torch.Tensor) -> float:
    """In percent, of rows that leave at these exits (N,)."""
    return 100 * float((record.logits_at(exits).argmax(-1) == record.labels).double().mean())


def shared_at(record: ExitRecord, scores: torch.Tensor, layers: Sequence[int], speedup: float) -> float:
    """The accuracy of one threshold at exactly this speed-up on these rows."""
    found = bracket_speedup(scores, layers, speedup)
    if found is None:
        return float("nan")
    faster, slower, share = found
    return (1 - share) * accuracy(record, faster) + share * accuracy(record, slower)


def record_file(run: Path, file: str) -> ExitRecord:
    """A pass over a file's rows, in float32 on the CPU."""
    folder = str(run / "model")
    model = MultiExitModel.from_pretrained(folder)
    data = file_data(file, folder, model, trained_length(folder, model), "text", None, "label")
    prepared = prepare_model(model, "float32", device=torch.device("cpu"))
    policies = [
        prepare_policy(policy.bind(model), prepared) for policy in (Entropy(), MaxProbability(), DistanceRatio())
    ]
    return record_rows(prepared, policies, open_split(data, "val"), data.collate_for(), 64)


def main(run: Path, file: str | None = None) -> None:
    """Compare on a run's stored passes; with a file, on its rows in the place of the test pass."""
    saved = read_checkpoint(run / "checkpoints" / "best.ckpt")["mebert"]["validation_record"]
    chosen_on = record_from_tensors(saved)
    test = load_record(run / "outputs.safetensors")[0] if file is None else record_file(run, file)
    layers = list(range(1, len(test.logits) + 1))
    print(f"{run}: chosen on {len(chosen_on.labels):,} rows, measured on {len(test.labels):,}")
    gains = []
    for name in [name for name in ("entropy", "edr", "max_prob", "dr") if name in test.scores]:
        scores, fresh = chosen_on.scores[name], test.scores[name]
        search = search_by_layers(chosen_on, scores, layers, "acc")
        for speedup in SPEEDUPS:
            own = search.for_cost(layers[-1] / speedup * ROUNDING)
            if own is None:
                continue
            exits = replay(fresh, own)
            reached = speedup_layers(exits, layers)
            shared = shared_at(test, fresh, layers, reached)
            gains.append(accuracy(test, exits) - shared)
            print(f"{name:9} {speedup:3}x: {shared:.2f} shared, {accuracy(test, exits):.2f} per exit at {reached:.2f}x")
        for what, at in (
            ("shared", threshold_for_drop(scores, search.metric_at, MAX_DROP)),
            ("per exit", thresholds_for_drop(chosen_on, name, layers, "acc", MAX_DROP)),
        ):
            exits = replay(fresh, at)
            lost = (accuracy(test, torch.full_like(exits, len(layers) - 1)) - accuracy(test, exits)) / 100
            print(f"{name:9} max_drop {MAX_DROP}, {what}: {speedup_layers(exits, layers):.2f}x, drop {lost:.4f}")
    mean = sum(gains) / len(gains)
    print(f"per exit - shared, in points: mean {mean:+.2f}, worst {min(gains):+.2f}, best {max(gains):+.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
