"""Megabytes that an installation needs, and seconds to a first answer: three packages against PyTorch.

    python benchmarks/deploy_size.py                    # sizes and times of a model of MiniLM's size; about two minutes
    python benchmarks/deploy_size.py --model runs/reviews/version_0 --text "A fine film."     # your own
    python benchmarks/deploy_size.py --sizes_only       # only the sizes; the times stay as they are

Sizes are those that the RECORD files of the installed distributions list (without compiled bytecode): of onnxruntime,
tokenizers and NumPy, and of mebert, with all that each of them requires. Times are of whole processes, from the start
of Python to one answer, the ways in turn; CPU seconds are those of all threads. Figures go to
benchmarks/results/deploy_size.json, the table into docs/deploy.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from page import replace_between, table

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "deploy.md", ROOT / "benchmarks" / "results" / "deploy_size.json"
MARKS = "<!-- size: benchmarks/deploy_size.py writes this -->", "<!-- end of size -->"
RUNNER, TORCH = ("onnxruntime", "tokenizers", "numpy"), ("mebert",)
ANSWER = """
import sys
from mebert import EarlyExitClassifier
print(EarlyExitClassifier.from_pretrained(sys.argv[1], precision="float32")(sys.argv[2]))
"""


def required(names: tuple[str, ...]) -> dict[str, float]:
    """Name of a distribution to its megabytes, of these and of all that they require here."""
    waiting, seen = [Requirement(name) for name in names], set[tuple[str, str]]()
    found: dict[str, float] = {}
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *sorted(wanted.extras)):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            one = distribution(name)
            found[name] = sum(file.size or 0 for file in one.files or ()) / 1e6
            more = map(Requirement, one.requires or ())
            waiting += [other for other in more if other.marker is None or other.marker.evaluate({"extra": extra})]
    if "mebert" in found:  # a clone that is installed in place lists a link alone
        found["mebert"] = (
            sum(file.stat().st_size for file in (ROOT / "mebert").rglob("*.*") if file.suffix != ".pyc") / 1e6
        )
    return found


def sizes() -> dict[str, Any]:
    """Of both ways the packages, largest first, and the version of PyTorch, which names its build."""
    try:
        torch = distribution("torch").version
        ways = {"runner": required(RUNNER), "PyTorch": required(TORCH)}
    except PackageNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed here: pip install -e '.[export]'") from error
    ordered = {way: dict(sorted(found.items(), key=lambda pair: -pair[1])) for way, found in ways.items()}
    return {"torch": torch, "python": platform.python_version(), "packages": ordered}


def random_model(folder: Path) -> str:
    """A model folder of MiniLM's size with random weights and a tokenizer of as many words; returns the folder."""
    import torch
    from transformers import BertTokenizer

    from mebert.commands.bench.bench_model import SIZES
    from mebert.models import MultiExitModel, build_encoder
    from mebert.policies import Entropy

    torch.manual_seed(0)
    config = {"model_type": "bert", **SIZES["minilm"]}
    model = MultiExitModel(build_encoder("", config), num_labels=2, label_names=["negative", "positive"]).eval()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(30_517))]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)}, model_max_length=512)
    model.save_pretrained(folder, tokenizer, Entropy(threshold=0.5).bind(model), max_length=128, num_texts=1)
    return str(folder)


def export(model: str, folder: Path, precision: str) -> Path:
    """An exported folder."""
    words = ["export", model, "--out", str(folder), "--precision", precision, "--max_drop", "0.99", "--samples", "20"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "mebert", *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    return folder


def spent(words: list[str]) -> tuple[float, float]:
    """CPU seconds, and seconds by the clock, of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def times(model: str | None, text: str, rounds: int) -> dict[str, Any]:
    """Of each way its medians of CPU seconds and seconds by the clock, and the megabytes of its model."""
    with tempfile.TemporaryDirectory() as name:
        from mebert.storage.run_folder import find_model

        here = Path(name)
        folder = random_model(here / "model") if model is None else str(find_model(model).saved)
        ways = {"PyTorch": ["-c", ANSWER, folder, text]}
        sources = {"PyTorch": Path(folder)}
        for precision in ("float32", "int8"):
            sources[precision] = out = export(folder, here / precision, precision)
            ways[precision] = [str(out / "runner.py"), str(out), text]
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for turn in range(rounds + 1):
            for way, words in ways.items():
                one = spent(words)
                found[way] += [one] if turn else []  # files are in the cache after the first
        medians = {
            way: [statistics.median(column) for column in zip(*each, strict=True)] for way, each in found.items()
        }
        return {
            way: {
                "cpu": medians[way][0],
                "wall": medians[way][1],
                "megabytes": sum(file.stat().st_size for file in source.iterdir() if file.is_file()) / 1e6,
            }
            for way, source in sources.items()
        } | {"threads": os.environ.get("OMP_NUM_THREADS", "all"), "rounds": rounds, "model": model}


def as_text(found: dict[str, Any]) -> str:
    """The table, and what is largest."""
    rows = []
    for way, title in (("float32", "`runner.py`"), ("int8", "`runner.py`, int8"), ("PyTorch", "mebert on PyTorch")):
        packages = found["packages"]["PyTorch" if way == "PyTorch" else "runner"]
        one = found.get("times", {}).get(way)
        measured = ["-"] * 3 if one is None else [f"{one['megabytes']:.0f}", f"{one['cpu']:.1f}", f"{one['wall']:.1f}"]
        rows.append([title, str(len(packages)), f"{sum(packages.values()):,.0f}", *measured])
    largest = {
        way: ", ".join(f"{name} {size:.0f}" for name, size in list(packages.items())[:5])
        for way, packages in found["packages"].items()
    }
    header = ["", "packages", "MB installed", "MB of the model", "first answer, s of CPU", "s by the clock"]
    model = (found.get("times") or {}).get("model") or "a model of MiniLM's size"
    return (
        f"{table(header, rows)}\n\n*Python {found['python']}, PyTorch {found['torch']}, {model}; "
        f"`python benchmarks/deploy_size.py`. Largest packages in MB: {largest['runner']}; {largest['PyTorch']}.*"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a run, a model folder or a Hub id; without it random weights of MiniLM's size")
    parser.add_argument("--text", default="w1 w2 w3 w4 w5 w6 w7 w8", help="what is classified")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes_only", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    found |= sizes()
    if not given.sizes_only:
        found["times"] = times(given.model, given.text, given.rounds)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    replace_between(PAGE, MARKS, as_text(found))
    print(as_text(found))


if __name__ == "__main__":
    main()
