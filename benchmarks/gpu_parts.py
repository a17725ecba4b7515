"""The measurements of benchmarks/gpu.py, each of them a part that runs in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gpu_report import ROOT

START = 20.0  # seconds of a part's limit, for the start of Python and the first kernels
TINY = {"train_samples": 640, "eval_samples": 128}


def fit(device: str, tiny: bool) -> dict[str, Any]:
    """The quickstart, stopped by SIGTERM after its first epoch and resumed: seconds of both, accuracy at the end."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        words = [sys.executable, "-m", "mebert", "fit", "--config", str(ROOT / "configs" / "quickstart.yaml")]
        words += ["--trainer.accelerator", "gpu" if device == "cuda" else device, "--trainer.devices", "1"]
        words += [f"--data.init_args.{key}={value}" for key, value in TINY.items() if tiny]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        start = partial(subprocess.Popen, cwd=name, env=environment, stdout=subprocess.DEVNULL)
        began, first = time.perf_counter(), start(words)
        while first.poll() is None and not list(Path(name).glob("runs/*/version_0/checkpoints/last.ckpt")):
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        status, found["stopped after"] = first.wait(), time.perf_counter() - began
        if status != 128 + signal.SIGTERM:
            raise SystemExit(f"fit ended with {status} before it could be stopped")
        began, second = time.perf_counter(), start([*words, "--ckpt_path", "last"])
        if second.wait():
            raise SystemExit(f"fit --ckpt_path last ended with {second.returncode}")
        found["resumed in"] = time.perf_counter() - began
        file = next(Path(name).glob("runs/*/version_1/evaluation.json"))
        evaluation = json.loads(file.read_text(encoding="utf-8"))
        found["metric"], found["last exit"] = evaluation["metric"], evaluation["exits"][-1][evaluation["metric"]]
    return found


def engines(device: str, tiny: bool, limit: float, size: str, compile: bool) -> dict[str, Any]:
    """`mebert bench` in bfloat16 at 2x by FLOPs."""
    from mebert.commands.bench.command import BenchSettings
    from mebert.commands.bench.run import run_bench

    few = tiny or compile
    with tempfile.TemporaryDirectory() as name:
        rows = run_bench(
            BenchSettings(
                size="tiny" if tiny else size,
                lengths="ag_news",
                batch_sizes=[1, 4] if tiny else [1, 32, 128, 512],
                samples=32 if tiny else 4096,
                engines=["shrink"] if few else ["full", "shrink", "refill", "predicted"],
                baselines=["unsorted", "sorted"],
                speedups=[2.0],
                precisions=["bfloat16"],
                device=device,
                compile=compile,
                budget=5.0 if tiny else limit - START,
                out=Path(name) / "bench",
            )
        )
    kept = (
        "name",
        "batch_size",
        "target",
        "samples_per_second",
        "p50",
        "speedup_flops",
        "speedup_wall",
        "wall_per_flops",
    )
    return {"rows": [{key: getattr(row, key) for key in kept} for row in rows]}


def graphs(device: str, tiny: bool, size: str) -> dict[str, Any]:
    """Milliseconds a text at batch 1: layers called one by one, or replayed as one CUDA graph an exit.

    Of both the full depth and half of it, with the score read after every exit, as an engine does.
    """
    import torch

    from mebert.commands.bench.bench_model import SIZES as SHAPES
    from mebert.inference import prepare_model, prepare_policy
    from mebert.models import MultiExitModel, build_encoder
    from mebert.policies import Entropy
    from mebert.report.wall_clock import wait_for

    torch.manual_seed(0)
    where = torch.device(device)
    model = MultiExitModel(build_encoder("", {"model_type": "bert", **SHAPES["tiny" if tiny else size]}), 2).eval()
    fast = prepare_model(model.to(where), "bfloat16")
    policy = prepare_policy(Entropy(threshold=0.5).bind(model), fast)
    found: dict[str, Any] = {}

    def timed(run: Callable[[], None], rounds: int) -> float:
        seconds = []
        for turn in range(rounds + 3):
            wait_for(where)
            began = time.perf_counter()
            run()
            wait_for(where)
            seconds += [time.perf_counter() - began] if turn > 2 else []
        return 1000 * statistics.median(seconds)

    def step(state: Any, index: int) -> tuple[Any, Any]:
        after, logits, feature = fast.step(state, index)
        return after, policy.score(index, logits, feature)

    def eager(ids: Any, mask: Any, depth: int) -> None:
        state = fast.start(ids, mask)
        for index in range(depth):
            state, score = step(state, index)
            bool(score < -1.0)

    with torch.inference_mode():
        for tokens in (16,) if tiny else (32, 128):
            ids = torch.randint(10, 60, (1, tokens), device=where)
            mask = torch.ones_like(ids)
            runs: dict[str, Callable[[int], None]] = {"eager": partial(eager, ids, mask)}
            if device == "cuda":
                runs["CUDA graphs"] = _captured(fast, ids, mask, step)
            depths = {"full depth": fast.num_exits, "half": max(1, fast.num_exits // 2)}
            for name, run in runs.items():
                cell = {what: timed(partial(run, depth), 3 if tiny else 50) for what, depth in depths.items()}
                found[f"{tokens} tokens, {name}"] = cell
    return found


def _captured(fast: Any, ids: Any, mask: Any, step: Callable[[Any, int], tuple[Any, Any]]) -> Callable[[int], None]:
    """Run a text as far as an exit, by CUDA graphs that were captured for its length."""
    import torch

    first = fast.start(ids, mask)
    entry = first.hidden.clone()
    state, recorded, pool = type(first)(**{**vars(first), "hidden": entry}), [], None
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # kernels and workspaces are chosen before anything is captured
        warm = state
        for index in range(fast.num_exits):
            warm, _ = step(warm, index)
    torch.cuda.current_stream().wait_stream(side)
    for index in range(fast.num_exits):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            state, score = step(state, index)
        pool = graph.pool()
        recorded.append((graph, score, state))

    def run(depth: int) -> None:
        entry.copy_(fast.start(ids, mask).hidden)
        for graph, score, _ in recorded[:depth]:
            graph.replay()
            bool(score < -1.0)

    return run


def training(device: str, tiny: bool, size: str) -> dict[str, Any]:
    """A training step with an exit a layer against plain fine-tuning, in bfloat16 autocast."""
    from training_cost import measure

    from mebert.commands.bench.bench_model import SIZES as SHAPES

    batch, tokens, rounds = (4, 16, 3) if tiny else (32, 128, 20)
    source = {"encoder_config": {"model_type": "bert", **SHAPES["tiny" if tiny else size]}}
    return {"batch": batch, "tokens": tokens, "modules": measure(source, batch, tokens, rounds, True, device)}


def run_part(name: str, device: str, tiny: bool, limit: float) -> dict[str, Any]:
    """What a part finds."""
    kind, *more = name.split()
    if kind == "engines":
        return engines(device, tiny, limit, more[0], compile="compiled" in more)
    if kind == "fit":
        return fit(device, tiny)
    return {"graphs": graphs, "training": training}[kind](device, tiny, more[0])
