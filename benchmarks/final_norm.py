"""Whether exits of a pre-norm encoder should read their layer through the encoder's final norm: with and without.

    python benchmarks/final_norm.py                    # both, a seed; prints a table
    python benchmarks/final_norm.py --seeds 1 2 3 --family eurobert

A ModernBERT of the quickstart's size is trained from scratch on the built-in entailment task with an exit after each
layer. What is compared is `EncoderAdapter.final_norm`: as it is, and replaced by the hidden states themselves for all
exits. No pretrained encoder of these families is needed, nor does the result tell what one would give.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import lightning as L
import torch
from harness import exit_metrics, train

from mebert import SyntheticEntailmentDataModule
from mebert.modules import MultiExitModule

ENCODER: dict[str, Any] = {
    **{"vocab_size": 64, "max_position_embeddings": 32, "pad_token_id": 0, "initializer_range": 0.2},
    **{"hidden_size": 96, "num_hidden_layers": 5, "num_attention_heads": 12, "intermediate_size": 192},
}


def one_run(family: str, norm: bool, seed: int, samples: int) -> tuple[list[float], list[float]]:
    """Test accuracy at each exit, and the root mean square of the hidden states after each layer."""
    L.seed_everything(seed, verbose=False)
    data = SyntheticEntailmentDataModule(
        train_samples=samples, eval_samples=2000, difficulty_shares=[1, 2, 4, 4], batch_size=32
    )
    settings: dict[str, Any] = {
        **{"pooling": "mean", "head": "linear", "exit_weights": "depth"},  # as configs/quickstart.yaml
        **{"num_labels": data.num_labels, "dropout": 0.0, "learning_rate": 1e-3, "warmup_ratio": 0.1},
    }
    module = MultiExitModule(encoder_config={"model_type": family, **ENCODER}, **settings)
    walk: Any = module.model.adapter
    if not norm:
        walk.final_norm = lambda hidden: hidden
    record = train(module, data, 1, splits=("test",)).records["test"]
    batch = {name: torch.ones(1, 16, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    sizes = []
    with torch.no_grad():
        state = walk.start(**batch)
        for depth in range(1, walk.num_layers + 1):
            state = walk.advance(state, depth)
            sizes.append(float(state.hidden.square().mean().sqrt()))
    return exit_metrics(record, ["acc"])["acc"], sizes


def main() -> None:
    """Train, and print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="modernbert", choices=["modernbert", "eurobert"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--samples", type=int, default=40_000)
    given = parser.parse_args()
    for norm in (True, False):
        runs = [one_run(given.family, norm, seed, given.samples) for seed in given.seeds]
        accuracy, sizes = (
            [statistics.mean(column) for column in zip(*part, strict=True)] for part in zip(*runs, strict=True)
        )
        print(f"{'with' if norm else 'without'} the final norm", flush=True)
        print("  accuracy at each exit ", *(f"{value:.3f}" for value in accuracy))
        print("  size of hidden states ", *(f"{value:.1f}" for value in sizes), flush=True)


if __name__ == "__main__":
    main()
