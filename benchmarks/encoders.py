"""Speed of `plain`, this package's prepared model without early exits, against Hugging Face's own, for every family.

    python benchmarks/encoders.py                               # all families; writes the table of docs/encoders.md
    python benchmarks/encoders.py --families mpnet deberta-v2   # some; the rows of the others stay
    python benchmarks/encoders.py --model sentence-transformers/all-mpnet-base-v2   # real weights, a row of their own

Each row is measured in a process of its own, both models in turn, on one thread, in CPU seconds: other work on the
machine then disturbs least. A family has random weights (6 layers of width 384), which cost as much as trained ones.
Texts are random tokens with the lengths of SST-2, in batches sorted by length for both. Before it is timed, the
prepared model must have Hugging Face's hidden states after every layer, within 1e-5.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from page import replace_between, table

from mebert.choices import PrecisionName
from mebert.commands.bench.baselines import HuggingFaceModel, hugging_face_model
from mebert.commands.bench.texts import make_batches, random_texts
from mebert.inference import Engine, make_engine, prepare_model
from mebert.inference.unpadding import FusedAdapter
from mebert.models import SUPPORTED_FAMILIES, MultiExitModel, build_encoder
from mebert.policies import FixedExit

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "encoders.md"
RESULTS = ROOT / "benchmarks" / "results" / "encoders.json"
MARKS = "<!-- speed: benchmarks/encoders.py writes this -->", "<!-- end of speed -->"
SIZE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
DEBERTA_V3 = {
    **{"relative_attention": True, "position_buckets": 256, "pos_att_type": ["p2c", "c2p"], "share_att_key": True},
    **{"norm_rel_ebd": "layer_norm", "position_biased_input": False},
}
OWN_NAMES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 384, "n_layers": 6, "n_heads": 12, "hidden_dim": 1536},
    "deberta-v2": {**SIZE, **DEBERTA_V3},
    "modernbert": {**SIZE, "pad_token_id": 0, "intermediate_size": 576},  # 3/2 of the width, as in the published ones
    "eurobert": {**SIZE, "pad_token_id": 0},
}
PRECISIONS: tuple[PrecisionName, ...] = ("float32", "bfloat16")
TEXTS = {1: 16, 32: 64}  # rows of a batch to texts


def main() -> None:
    """Measure what is asked for, keep it in `RESULTS`, and write all of that into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=None, choices=SUPPORTED_FAMILIES, metavar="FAMILY")
    parser.add_argument("--model", help="Hub id or folder of an encoder with real weights, in the place of families")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.rounds)))
        return
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in [given.model] if given.model else given.families or SUPPORTED_FAMILIES:
        command = [sys.executable, __file__, "--one", name, "--rounds", str(given.rounds)]
        found[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"{name}: {found[name]}", flush=True)
        found = {key: found[key] for key in (*SUPPORTED_FAMILIES, *sorted(found)) if key in found}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        replace_between(PAGE, MARKS, as_table(found))


def measure(name: str, rounds: int) -> dict[str, Any]:
    """CPU milliseconds a text of both models and the median of their ratio, by precision and rows of a batch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    family = name in SUPPORTED_FAMILIES
    config = {"model_type": name, **OWN_NAMES.get(name, SIZE), "vocab_size": 30522} if family else None
    model = MultiExitModel(build_encoder(name, config), num_labels=2).eval()
    settings: Any = model.adapter.config
    found: dict[str, Any] = {"layers": model.num_layers, "width": model.hidden_size, "random": family}
    for precision in PRECISIONS:
        fast = prepare_model(model, precision)
        found["fused"] = isinstance(fast.adapter, FusedAdapter)
        theirs = HuggingFaceModel(hugging_face_model(model, torch.device("cpu"), precision))
        if precision == "float32":
            check_hidden_states(model, fast)
        ours = make_engine("full", fast, FixedExit(exit=fast.num_exits))
        for size, texts in TEXTS.items():
            rows = random_texts("sst2", texts, 128, settings.vocab_size, seed=0)
            batches = make_batches(rows, size, settings.pad_token_id or 0, torch.device("cpu"), sort=True)
            each = [(cpu_seconds(theirs, batches), cpu_seconds(ours, batches)) for _ in range(rounds + 1)][1:]
            hf, plain = (1000 * statistics.median(column) / texts for column in zip(*each, strict=True))
            numbers = {"hf": hf, "plain": plain, "ratio": statistics.median(a / b for a, b in each)}
            found[f"{precision}, batch {size}"] = {key: round(value, 3) for key, value in numbers.items()}
    return found


@torch.no_grad()
def check_hidden_states(model: MultiExitModel, fast: MultiExitModel) -> None:
    """Compare those of packed texts with Hugging Face's, layer by layer, in batches of 1 and 6."""
    settings: Any = model.adapter.config
    rows = random_texts("sst2", 7, 128, settings.vocab_size, seed=1)
    for inputs, _ in make_batches(rows, 6, settings.pad_token_id or 0, torch.device("cpu"), sort=True):
        states = model.encoder(**inputs, output_hidden_states=True).hidden_states
        state = fast.start(**inputs)
        for depth in range(1, fast.num_layers + 1):
            state = fast.adapter.advance(state, depth)
            hidden, mask = state.padded()
            read = hidden if depth < fast.num_layers else fast.adapter.final_norm(hidden)
            wanted = states[depth][inputs["attention_mask"] == 1]
            torch.testing.assert_close(read[mask == 1], wanted, atol=1e-5, rtol=1e-5)


def cpu_seconds(engine: Engine, batches: Any) -> float:
    """CPU seconds of all batches."""
    before = time.process_time()
    for inputs, rows in batches:
        engine.feed(inputs, rows)
    return time.process_time() - before


def as_table(found: dict[str, Any]) -> str:
    """A row for each name: what was measured, and CPU milliseconds a text of Hugging Face's model and of `plain`."""
    cells = [f"{precision}, batch {size}" for precision in PRECISIONS for size in TEXTS]
    rows = []
    for name, one in found.items():
        size = f"{one['layers']} layers of {one['width']}, {'random' if one['random'] else 'real weights'}"
        times = [f"{one[cell]['hf']:.3g} / {one[cell]['plain']:.3g}: {one[cell]['ratio']:.2f}x" for cell in cells]
        rows.append([f"`{name}`", size, *times])
    return table(["encoder", "size", *cells], rows)


if __name__ == "__main__":
    main()
