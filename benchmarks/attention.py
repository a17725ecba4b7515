"""Attention on the CPU: plain products against PyTorch's fused kernel, and which rows to put together.

    python benchmarks/attention.py --threads 2           # bfloat16: products against the fused kernel
    python benchmarks/attention.py --groups --threads 2  # six layers of MiniLM's size: how large a group should be
    python benchmarks/attention.py --blocks --threads 2  # the same: how many tokens should run together
    python benchmarks/attention.py --shapes --threads 2  # a product of a shape that was not seen before

Random numbers; runs are interleaved in one process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from mebert.inference.attention_plan import attend

SHAPES = [
    *((1, 12, s, 32) for s in (16, 24, 32, 36, 48, 64)),
    *((32, 12, s, 32) for s in (16, 24, 31, 32, 36, 48, 60, 64, 100)),
    *((b, 12, s, 64) for b, s in ((1, 128), (32, 128), (8, 512))),
]
CHOICES = {"scores": (None, *(2**k for k in range(12, 18))), "tokens": (None, *(2**k for k in range(9, 14)))}
SIZE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def in_turn(runs: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each run in each round, after one that is not counted."""
    taken: list[list[float]] = []
    for _ in range(rounds + 1):
        taken.append([])
        for run in runs:
            begin = time.perf_counter()
            run()
            taken[-1].append(time.perf_counter() - begin)
    return taken[1:]


def fused_run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """PyTorch's own."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def compare_kernels(rounds: int) -> None:
    """Products against the fused kernel."""
    print(" rows heads tokens width    fused products  ratio  largest error")
    for batch, heads, tokens, width in SHAPES:
        qkv = torch.randn(batch, tokens, 3, heads, width).bfloat16().permute(2, 0, 3, 1, 4)
        mask = torch.zeros(batch, 1, 1, tokens, dtype=torch.bfloat16)
        mask[..., -3:] = float("-inf")
        inputs = (*qkv, mask)
        error = float((fused_run(*inputs).float() - attend(*inputs).float()).abs().max())

        def fused(inputs: tuple[torch.Tensor, ...] = inputs) -> torch.Tensor:
            return fused_run(*inputs)

        def products(inputs: tuple[torch.Tensor, ...] = inputs) -> torch.Tensor:
            return attend(*inputs)

        taken = in_turn([fused, products], rounds)
        medians = [1e3 * statistics.median(column) for column in zip(*taken, strict=True)]
        ratio = statistics.median(b / a for a, b in taken)
        print(f"{batch:5}{heads:6}{tokens:7}{width:6}{medians[0]:9.2f}{medians[1]:9.2f}{ratio:7.2f}{error:15.4f}")


def last_exit(model: Any, planner: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The whole prepared model, with rows put together by a planner."""
    model.adapter.planner = planner
    logits: torch.Tensor = model.last_exit(ids, mask)
    return logits


def compare_planners(varied: str, rounds: int) -> None:
    """Values of one setting of `Planner`, over batches of sorted, mixed and long rows."""
    from transformers import BertConfig, BertModel

    from mebert.inference import prepare_model
    from mebert.models import MultiExitModel

    model = MultiExitModel(BertModel(BertConfig(**SIZE), add_pooling_layer=False), 3, pooling="mean").eval()
    generator = np.random.default_rng(0)
    drawn = np.clip(np.exp(generator.normal(np.log(40), 0.45, 1024)).astype(np.int64), 8, 128)
    values = CHOICES[varied]
    print(f"milliseconds, median;  batch      lengths, {varied}: " + "".join(f"{one or 'all':>8}" for one in values))
    for precision in ("bfloat16", "float32"):
        fast: Any = prepare_model(model, precision)
        planners = [replace(fast.adapter.planner, **{varied: one}) for one in values]
        for batch in (32, 128):
            kinds = {"sorted": np.sort(drawn)[500 : 500 + batch], "mixed": drawn[:batch], "long": np.full(batch, 128)}
            for kind, lengths in kinds.items():
                ids = torch.randint(5, 30000, (batch, int(lengths.max())))
                mask = torch.from_numpy((np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64))

                taken = in_turn([partial(last_exit, fast, planner, ids, mask) for planner in planners], rounds)
                medians = [1e3 * statistics.median(column) for column in zip(*taken, strict=True)]
                print(f"{precision:>22}{batch:7}{kind:>13}{'':10} " + "".join(f"{value:8.1f}" for value in medians))


def compare_shapes() -> None:
    """The first product of each of 30 shapes and the median of four more, bfloat16: of attention, of a projection."""
    weight = torch.randn(1536, 384).bfloat16()
    kinds: dict[str, Callable[[int], Callable[[], object]]] = {
        "batched product": lambda n: partial(
            torch.bmm, torch.randn(12 * n, 37, 64).bfloat16(), torch.randn(12 * n, 64, 32).bfloat16()
        ),
        "projection of 37 n tokens": lambda n: partial(F.linear, torch.randn(37 * n, 384).bfloat16(), weight),
    }
    for name, make in kinds.items():
        taken: list[list[float]] = []
        for rows in range(8, 38):
            run = make(rows)
            taken.append([])
            for _ in range(5):
                begin = time.perf_counter()
                run()
                taken[-1].append(1e3 * (time.perf_counter() - begin))
        new = statistics.median(first for first, *_ in taken)
        seen = statistics.median(statistics.median(others) for _, *others in taken)
        print(f"{name}: a new shape {new:.2f} ms, the same again {seen:.2f} ms (medians of {len(taken)} shapes)")


@torch.inference_mode()
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rounds = args.rounds or (5 if args.groups or args.blocks else 21)
    print(f"CPU, {args.threads} thread(s), {rounds} interleaved rounds")
    if args.shapes:
        compare_shapes()
    elif args.groups or args.blocks:
        compare_planners("scores" if args.groups else "tokens", rounds)
    else:
        print("bfloat16; milliseconds, median")
        compare_kernels(rounds)


if __name__ == "__main__":
    main()
