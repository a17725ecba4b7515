"""Peak memory of `predict` by the number of rows: a file that is streamed against one that is read at once.

    python benchmarks/streaming.py
    python benchmarks/streaming.py --kernels 64 --keep --rows 10000 200000 1000000 --whole_rows 200000  # adds to these

Generates the rows, trains a model of one layer on a few of them, and runs the command line in a separate process for
each measurement. Writes benchmarks/results/streaming.json and the table in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/streaming.json"
PAGE = ROOT / "docs/reliability.md"
MARKS = "<!-- streaming: benchmarks/streaming.py writes this -->", "<!-- end of streaming -->"
WORDS = [f"word{number}" for number in range(500)]


def generate(path: Path, rows: int) -> None:
    """Texts of 3 to 20 words with a label, as JSON lines."""
    rng = random.Random(rows)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = " ".join(rng.choices(WORDS, k=rng.randint(3, 20)))
            file.write(json.dumps({"text": text, "label": "ab"[number % 2]}) + "\n")


def settings(folder: Path) -> dict[str, Any]:
    """A model of one layer and width 32."""
    encoder = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoder |= {"intermediate_size": 64, "vocab_size": 600, "max_position_embeddings": 64}
    data = {"tokenizer": str(folder / "tokenizer"), "max_length": 32, "eval_batch_size": 256, "labels": ["a", "b"]}
    files = {name: str(folder / "train.jsonl") for name in ("train_file", "validation_file")}
    return {
        "trainer": {"accelerator": "cpu", "precision": "32-true", "max_steps": 2, "enable_progress_bar": False},
        "model": {"class_path": "mebert.MultiExitModule", "init_args": {"encoder_config": encoder}},
        "data": {"class_path": "mebert.TextDataModule", "init_args": data | files},
        "curve": {"wall_samples": 0},
        "test_after_fit": False,
    }


def run(folder: Path, *arguments: str) -> tuple[float, float]:
    """The command line in a separate process: seconds, and its peak resident memory in MB."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(folder / "cache")}
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mebert", *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with status {status}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def measure(folder: Path, rows: int, streaming: bool, kernels: int) -> dict[str, Any]:
    """One prediction of a generated file, whose table is checked for its length."""
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = str(kernels)
    source, table = folder / f"{rows}.jsonl", folder / "out.csv"
    if not source.exists():
        generate(source, rows)
    chosen = ["--data.predict_file", str(source), "--data.streaming", str(streaming).lower()]
    common = ["--config", "run.yaml", "--ckpt_path", "best", "--predictions.path", str(table)]
    seconds, peak = run(folder, "predict", *common, *chosen)
    with table.open(encoding="utf-8") as file:
        lines = sum(1 for _ in file)
    if lines != rows + 1:
        raise SystemExit(f"{table} has {lines} lines for {rows} rows")
    found = {"rows": rows, "streaming": streaming, "seconds": round(seconds, 1), "peak_mb": round(peak)}
    found |= {"file_mb": round(source.stat().st_size / 1e6, 1), "kernels": kernels}
    print(found, flush=True)
    return found


def as_table(found: list[dict[str, Any]], threads: int) -> str:
    """The figures as markdown."""
    lines = ["| rows | file | `data.streaming` | kernels | peak memory | time |", "|---|---|---|---|---|---|"]
    for row in sorted(found, key=lambda row: (row["streaming"], -row["kernels"], row["rows"])):
        size, peak = f"{row['file_mb']:,.0f} MB", f"{row['peak_mb']:,} MB"
        cells = [f"{row['rows']:,}", size, str(row["streaming"]).lower(), f"{row['kernels']:,}", peak]
        lines.append(f"| {' | '.join(cells)} | {row['seconds']:,.0f} s |")
    note = f"CPU, {threads} thread(s), one process, a model of 1 layer, the start of Python and the imports included."
    return "\n".join([*lines, "", note])


def main() -> None:
    """Measure and write."""
    from transformers import BertTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--whole_rows", type=int, nargs="*", default=[10_000], help="sizes that are also read at once")
    parser.add_argument("--kernels", type=int, default=1024, help="limit of oneDNN's kernel cache, 1,024 by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the runs that have been measured before")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    with TemporaryDirectory() as name:
        folder = Path(name)
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        tokens = {word: number for number, word in enumerate(vocabulary)}
        BertTokenizer(vocab=tokens, model_max_length=64).save_pretrained(folder / "tokenizer")
        generate(folder / "train.jsonl", 64)
        (folder / "run.yaml").write_text(json.dumps(settings(folder)), encoding="utf-8")  # JSON is YAML
        run(folder, "fit", "--config", "run.yaml")
        found = json.loads(RESULT.read_text(encoding="utf-8"))["runs"] if given.keep else []
        found += [measure(folder, rows, False, given.kernels) for rows in given.whole_rows]
        found += [measure(folder, rows, True, given.kernels) for rows in given.rows]
    RESULT.write_text(json.dumps({"threads": given.threads, "runs": found}, indent=1) + "\n", encoding="utf-8")
    table, page = as_table(found, given.threads), PAGE.read_text(encoding="utf-8")
    if all(mark in page for mark in MARKS):
        before, rest = page.split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        PAGE.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
