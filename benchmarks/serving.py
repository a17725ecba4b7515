"""A server under load: full depth, a fixed 2x, and the elastic operating point, at 0.5 to 3 times its capacity.

    python benchmarks/serving.py train             # AG's News, 5,000 rows, FastBERT's recipe; about 5 minutes
    python benchmarks/serving.py run               # on an idle machine with two cores; 8 minutes
    python benchmarks/serving.py report            # the table and the picture of docs/serving.md

`run` starts `python -m mebert serve` on the first core, with one thread, and sends texts of AG's News' test split from
the other, 8 a request (benchmarks/serving_client.py). It first measures how many requests a second the full depth
answers when 16 clients ask all the time: its capacity. Each cell is 25 s of Poisson arrivals, of which the first 5 are
dropped. The target is twice full depth's 99th percentile at half of its capacity. A cell whose file is in
benchmarks/results/serving is skipped. Data and weights come from the Hub (HF_ENDPOINT decides which).
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving_client import Client, Sent

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "serving"
FOLDER = ROOT / "runs" / "serving"
MODEL = FOLDER / "runs" / "ag_news" / "version_0"
LABELS = ("World", "Sports", "Business", "Sci/Tech")
TRAIN_ROWS, TEXTS = 5000, 4000
PER_REQUEST = 8  # texts; with one short text HTTP and queues take as long as this small model
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0)
MODES: dict[str, dict[str, Any]] = {"full": {"speedup": 1}, "2x": {"speedup": 2}, "elastic": {}}
SECONDS, WARM_UP = 25.0, 5.0
MAX_DROP, SPEEDUPS = 0.02, "[1.5,2,2.5,3,4,5]"


def mebert(*words: str, **settings: Any) -> None:
    """Run a command of mebert with one thread."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "mebert", *words], check=True, env=environment, **settings)


def train() -> None:
    """Write a CSV of training rows, train, and store the operating points."""
    from mebert.data.tasks import find_task, load_task_splits

    FOLDER.mkdir(parents=True, exist_ok=True)
    rows = load_task_splits(find_task("ag_news"), ("train",), None)["train"].shuffle(seed=0).select(range(TRAIN_ROWS))
    with (FOLDER / "ag_news.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([row["text"], LABELS[row["label"]]] for row in rows)
    mebert("fit", "ag_news.csv", "--recipe", "fastbert", "--max_epochs", "2", cwd=FOLDER)
    mebert("calibrate", str(MODEL.relative_to(FOLDER)), "--speedup", SPEEDUPS, cwd=FOLDER)


def texts_and_labels(model: Path) -> tuple[list[str], list[str], list[str]]:
    """Test texts, their labels, and what the model answers at full depth."""
    from mebert import EarlyExitClassifier
    from mebert.data.tasks import find_task, load_task_splits

    rows = load_task_splits(find_task("ag_news"), ("test",), None)["test"].shuffle(seed=0).select(range(TEXTS))
    texts = list(rows["text"])
    full = EarlyExitClassifier.from_pretrained(model)(texts, speedup=1, progress=False)
    return texts, [LABELS[label] for label in rows["label"]], [prediction.label for prediction in full]


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server(model: Path, *options: str) -> Iterator[int]:
    """A server on the first core; gives its port once it is healthy, and stops it at the end."""
    port, cores = free_port(), sorted(os.sched_getaffinity(0))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "mebert", "serve", str(model), "--port", str(port), "--threads", "1"]
    with (FOLDER / "server.log").open("ab") as log:
        os.sched_setaffinity(0, cores[:1])  # what is started inherits it
        process = subprocess.Popen(
            [*command, *options],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
        os.sched_setaffinity(0, cores[1:] or cores)
    try:
        wait_until_healthy(port, process)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        os.sched_setaffinity(0, cores)


def wait_until_healthy(port: int, process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    """Until /health answers 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server has stopped; see {FOLDER / 'server.log'}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the server was not ready after {seconds:g} s; see {FOLDER / 'server.log'}")


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def figures(
    sent: Sequence[Sent], labels: Sequence[str], full: Sequence[str], target: float | None, warm_up: float = WARM_UP
) -> dict[str, Any]:
    """What a cell has measured; without a target it is twice this cell's own 99th percentile."""
    counted = [one for one in sent if one.due >= warm_up]
    answered = [one for one in counted if one.status == 200]
    p99 = quantile([one.latency for one in answered], 0.99)
    target = 2 * p99 if target is None and p99 is not None else target
    if target is None or not answered:
        raise SystemExit("no request was answered")
    points = Counter(str(one.point) for one in answered)
    texts = [(row, label) for one in answered for row, label in zip(one.rows, one.labels, strict=True)]
    refused = [one for one in counted if one.status == 503]
    return {
        "sent": len(counted),
        "answered": len(answered),
        "refused": len(refused),
        "refused_with_retry_after": sum(one.retry_after for one in refused),
        "failed": len(counted) - len(answered) - len(refused),
        "in_time": sum(one.latency <= target for one in answered),
        "p50": quantile([one.latency for one in answered], 0.5),
        "p99": p99,
        "target": target,
        "texts": len(texts),
        "right": sum(label == labels[row] for row, label in texts),
        "right_at_full_depth": sum(full[row] == labels[row] for row, _ in texts),
        "points": dict(points.most_common()),
    }


def run(model: Path, results: Path, loads: Sequence[float], seconds: float) -> None:
    """All cells that are not there yet."""
    from harness import run_once

    def path_of(mode: str, load: float) -> Path:
        return results / f"{mode}_{load:g}.json"

    def read(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        return found

    FOLDER.mkdir(parents=True, exist_ok=True)
    texts, labels, full = texts_and_labels(model)
    warm_up = min(WARM_UP, seconds / 5)

    def client(port: int, mode: str) -> Client:
        return Client(port, texts, PER_REQUEST, MODES[mode])

    def capacity(port: int) -> dict[str, Any]:
        sent = asyncio.run(client(port, "full").closed_loop(16, warm_up + seconds / 2.5))
        done = [one.due + one.latency for one in sent if one.status == 200]
        counted = sum(warm_up <= time < warm_up + seconds / 2.5 for time in done)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/info", timeout=5) as answer:
            info = json.load(answer)
        return {
            "requests_per_second": counted / (seconds / 2.5),
            **{name: info[name] for name in ("backend", "precision")},
            "device": f"CPU ({platform.machine()})",
        }

    def cell(port: int, mode: str, load: float) -> None:
        path = path_of(mode, load)
        rate = load * read("capacity")["requests_per_second"]

        def measure() -> dict[str, Any]:
            time.sleep(1.0)
            sent = asyncio.run(client(port, mode).open_loop(rate, seconds, seed=int(10 * load)))
            target = None if path.stem == "full_0.5" else read("full_0.5")["target"]
            return {"mode": mode, "load": load, "rate": rate, **figures(sent, labels, full, target, warm_up)}

        if (found := run_once(path, measure)) is not None:
            print(path.stem, json.dumps(found), flush=True)

    fixed = [(mode, load) for mode in ("full", "2x") for load in loads]
    if any(not path_of(mode, load).exists() for mode, load in fixed):
        with server(model) as port:
            run_once(results / "capacity.json", lambda: capacity(port))
            for mode, load in fixed:
                cell(port, mode, load)
    if any(not path_of("elastic", load).exists() for load in loads):
        target = 1000 * read("full_0.5")["target"]
        with server(model, "--target_p99_ms", f"{target:.1f}", "--max_drop", str(MAX_DROP)) as port:
            for load in loads:
                cell(port, "elastic", load)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "run", "report"))
    parser.add_argument("--model", type=Path, default=MODEL, help="a run with labels of AG's News")
    parser.add_argument("--loads", type=float, nargs="+", default=list(LOADS), help="0.5 first: it gives the target")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a cell; a fifth is warm-up")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.command == "train":
        train()
    elif args.command == "run":
        run(args.model, args.results, args.loads, args.seconds)
    else:
        from serving_report import write_report

        write_report(args.results, ROOT / "docs" / "serving.md")


if __name__ == "__main__":
    main()
