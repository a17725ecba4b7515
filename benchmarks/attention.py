"""Attention in bfloat16 on the CPU: PyTorch's fused kernel against two batched products, in turn.

python benchmarks/attention.py --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from mebert.inference.attention import attend

SHAPES = [
    *((1, 12, s, 32) for s in (16, 24, 32, 36, 48, 64)),
    *((32, 12, s, 32) for s in (16, 24, 31, 32, 36, 48, 60, 64, 100)),
    *((b, 12, s, 64) for b, s in ((1, 128), (32, 128), (8, 512))),
]


def seconds(run: Callable[[], object]) -> float:
    """Of one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


@torch.inference_mode()
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"bfloat16, CPU, {args.threads} thread(s), {args.rounds} rounds in turn; milliseconds, median")
    print(
        f"{'rows':>5}{'heads':>6}{'tokens':>7}{'width':>6}{'fused':>9}{'products':>9}{'ratio':>7}{'largest error':>15}"
    )
    for batch, heads, tokens, width in SHAPES:
        qkv = torch.randn(batch, tokens, 3, heads, width).bfloat16().permute(2, 0, 3, 1, 4)
        mask = torch.zeros(batch, 1, 1, tokens, dtype=torch.bfloat16)
        mask[..., -3:] = float("-inf")
        query, key, value = qkv
        runs: list[Callable[[], torch.Tensor]] = [
            lambda q=query, k=key, v=value, m=mask: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
            lambda q=query, k=key, v=value, m=mask: attend(q, k, v, m),
        ]
        error = float((runs[0]().float() - runs[1]().float()).abs().max())
        taken = [[seconds(run) for run in runs] for _ in range(args.rounds)]
        fused, products = (1e3 * statistics.median(column) for column in zip(*taken, strict=True))
        ratio = statistics.median(b / a for a, b in taken)
        print(f"{batch:5}{heads:6}{tokens:7}{width:6}{fused:9.2f}{products:9.2f}{ratio:7.2f}{error:15.4f}")


if __name__ == "__main__":
    main()
