"""Time and memory of one training step: multi-exit against plain fine-tuning of the same encoder.

    python benchmarks/training_cost.py
    python benchmarks/training_cost.py --encoder sentence-transformers/all-MiniLM-L6-v2 --batch 32 --tokens 40

Plain is the same encoder with Hugging Face's shape of classifier on its last layer. All models live in one process and
step in turn, round after round, so that a busy machine slows them alike; the ratio of the medians is the result.
Memory is what a step needs: weights, gradients, AdamW's two moments, and the activations kept for the backward pass.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from mebert.modules import MultiExitModule, ProtoExitModule
from mebert.modules.optimization import adamw_with_linear_decay


class Stepper:
    """One model with its optimiser, stepping on one batch."""

    def __init__(self, module: MultiExitModule, batch: dict[str, Tensor], bf16: bool) -> None:
        self.module = module.to(batch["input_ids"].device).train()
        self.batch = batch
        self.bf16 = bf16
        found: dict[str, Any] = adamw_with_linear_decay(module.model, 2e-5, 0.0, 0.0, 10_000)
        self.optimizer: torch.optim.Optimizer = found["optimizer"]
        self.seconds: list[float] = []

    def loss(self) -> Tensor:
        inputs = {k: self.batch[k] for k in ("input_ids", "attention_mask")}
        device = self.batch["input_ids"].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.bf16):
            return self.module.compute_loss(self.module(**inputs), self.batch)["loss"]

    def step(self) -> None:
        begin = time.perf_counter()
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.batch["input_ids"].is_cuda:
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - begin)

    def megabytes(self) -> float:
        """Weights, gradients and moments (four times the trained weights), and activations kept for backward."""
        own = {p.untyped_storage().data_ptr() for p in self.module.parameters()}
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss()
        loss.backward()
        self.optimizer.zero_grad()
        weights = sum(p.numel() * p.element_size() for p in self.module.parameters() if p.requires_grad)
        return (4 * weights + sum(kept.values())) / 1e6


def measure(source: dict[str, Any], batch: int, tokens: int, rounds: int, bf16: bool, device: str) -> dict[str, Any]:
    """Name of a module to its seconds a step (of each round) and megabytes; the first one is plain fine-tuning.

    `source` are the module's arguments that name its encoder.
    """
    torch.manual_seed(0)
    ids = torch.randint(10, 60, (batch, tokens), device=device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 3}
    every = MultiExitModule(num_labels=3, **source)
    modules = {
        "plain (one exit)": MultiExitModule(num_labels=3, exit_layers=[every.model.num_layers], **source),
        "MultiExitModule": every,
        "ProtoExitModule": ProtoExitModule(num_labels=3, **source),
    }
    steppers = {name: Stepper(module, inputs, bf16) for name, module in modules.items()}
    memory = {name: stepper.megabytes() for name, stepper in steppers.items()}
    for turn in range(rounds + 2):
        for stepper in steppers.values():
            stepper.step()
            if turn < 2:  # warm-up: allocation and the optimiser's state
                stepper.seconds.clear()
    return {name: {"seconds": stepper.seconds, "megabytes": memory[name]} for name, stepper in steppers.items()}


def as_rows(found: dict[str, Any]) -> list[list[str]]:
    """Of each module its name, milliseconds a step, their ratio to plain fine-tuning, megabytes, and theirs."""
    base = next(iter(found.values()))
    rows = []
    for name, one in found.items():
        ratio = statistics.median(a / b for a, b in zip(one["seconds"], base["seconds"], strict=True))
        time_and_ratio = [f"{1000 * statistics.median(one['seconds']):.3g}", f"{ratio:.3f}"]
        rows.append([name, *time_and_ratio, f"{one['megabytes']:.0f}", f"{one['megabytes'] / base['megabytes']:.3f}"])
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", help="Hub id or folder; without it, bert-base's shape with random weights")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--float32", action="store_true", help="without bfloat16 autocast")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source: dict[str, Any] = {"encoder": args.encoder} if args.encoder else {"encoder_config": {"model_type": "bert"}}
    found = measure(source, args.batch, args.tokens, args.rounds, not args.float32, device)
    print(
        f"one training step, {args.encoder or 'bert-base shape, random weights'}: batch {args.batch}, "
        f"{args.tokens} tokens, {'float32' if args.float32 else 'bf16 autocast'}, {device}, "
        f"{args.threads} threads, {args.rounds} interleaved rounds"
    )
    for name, *cells in [["", "ms (median)", "time ratio", "MB", "memory ratio"], *as_rows(found)]:
        print(f"{name:18}{''.join(f'{cell:>14}' for cell in cells)}")


if __name__ == "__main__":
    main()
