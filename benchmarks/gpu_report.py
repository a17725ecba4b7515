"""The part of docs/speed.md about a GPU, from the figures of benchmarks/gpu.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from page import replace_between, table
from training_cost import as_rows

ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "speed.md", ROOT / "benchmarks" / "results" / "gpu.json"
MARKS = "<!-- gpu: benchmarks/gpu.py writes this -->", "<!-- end of gpu -->"


def as_text(found: dict[str, Any]) -> str:
    """The tables of all parts, and what was left out."""
    parts = found["parts"]
    done = {name: part for name, part in parts.items() if "skipped" not in part}
    text = [f"*{found['machine']}, PyTorch {found['torch']}, bfloat16, random weights; `python benchmarks/gpu.py`.*"]
    if "fit" in done:
        one = done["fit"]
        text.append(
            f"The quickstart, stopped after its first epoch ({one['stopped after']:.0f} s with the start of Python) "
            f"and resumed ({one['resumed in']:.0f} s to the end of the test): {one['metric']} of the last exit "
            f"{one['last exit']:.4f}."
        )
    rows = []
    for name, part in done.items():
        kind, *more = name.split()
        for row in part["rows"] if kind == "engines" else []:
            numbers = [row["speedup_flops"], row["speedup_wall"], row["wall_per_flops"]]
            cells = ["" if number is None else f"{number:.2f}" for number in numbers]
            what = [more[0], "yes" if "compiled" in more else "no", str(row["batch_size"]), row["name"]]
            rows.append([*what, f"{row['samples_per_second']:,.0f}", f"{row['p50']:.3g}", *cells])
    if rows:
        head = ["size", "compiled", "batch", "what", "samples/s", "p50 ms", "FLOPs", "wall", "wall/FLOPs"]
        text.append(table(head, rows))
    depths: list[list[str]] = [
        [
            name.split()[1],
            what,
            *(f"{value:.3g}" for value in cell.values()),
            f"{cell['full depth'] / cell['half']:.2f}",
        ]
        for name, part in done.items()
        if name.startswith("graphs")
        for what, cell in part.items()
        if what != "took"
    ]
    if depths:
        text.append("A text at a time, milliseconds, the score read after every exit:")
        text.append(table(["size", "text and how", "full depth", "half of the layers", "ratio"], depths))
    steps: list[list[str]] = [
        [name.split()[1], *row]
        for name, part in done.items()
        if name.startswith("training")
        for row in as_rows(part["modules"])
    ]
    if steps:
        one = next(part for name, part in done.items() if name.startswith("training"))
        text.append(f"A training step, batch {one['batch']} of {one['tokens']} tokens, bfloat16 autocast:")
        text.append(table(["size", "module", "ms", "time / plain", "MB", "memory / plain"], steps))
    text += [f"- {name}: {part['skipped']}" for name, part in parts.items() if "skipped" in part]
    return "\n\n".join(text)


def write_page(found: dict[str, Any]) -> None:
    """Put the tables between the marks of docs/speed.md."""
    replace_between(PAGE, MARKS, as_text(found))


if __name__ == "__main__":
    write_page(json.loads(RESULTS.read_text(encoding="utf-8")))
