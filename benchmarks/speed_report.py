"""The part of docs/speed.md with figures, from the measurements of benchmarks/speed.py."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

import speed as bench
from page import fill, replace_between, table

Row = dict[str, Any]
MARKS = "<!-- figures -->", "<!-- end of figures -->"
TITLES = {
    "minilm": "MiniLM size, random weights, batches of 1 and 32",
    "minilm_batches": "MiniLM size, random weights, batches of 8 and 128",
    "bert_base": "BERT-base size, random weights, 128 tokens",
    "geep_ag_news": "GEEP on AG's News",
    "geep_sst2": "GEEP on SST-2",
    "geep_imdb": "GEEP on IMDB",
    "geep_chnsenticorp": "GEEP on ChnSentiCorp",
}
ENGINES = ("full", "shrink", "refill", "predicted")


class Measurement:
    """One `bench.json`, with the shares of time from another."""

    def __init__(self, name: str, content: dict[str, Any], shares: dict[str, Any]) -> None:
        self.name = name
        self.rows: list[Row] = content["rows"]
        self.setting: dict[str, Any] = content["setting"]
        self.breakdown: list[dict[str, Any]] = shares["breakdown"]
        self.verdict: str = content["verdict"]

    def find(self, precision: str, batch: int, name: str, target: float | None = None) -> Row | None:
        """The row of a variant."""
        for row in self.rows:
            if (row["precision"], row["batch_size"], row["name"], row["target"]) == (precision, batch, name, target):
                return row
        return None

    def groups(self) -> list[tuple[int, str]]:
        """Batch sizes and precisions, in order."""
        return list(dict.fromkeys((row["batch_size"], row["precision"]) for row in self.rows))

    def against(self, row: Row, precision: str, name: str) -> float | None:
        """How many times faster than a baseline at the same batch size: the median over rounds."""
        base = self.find(precision, row["batch_size"], name)
        if base is None:
            return None
        return float(median(b / a for a, b in zip(row["seconds"], base["seconds"], strict=True)))

    def table(self) -> str:
        """Every variant: samples per second, latency, FLOPs, wall clock, their ratio, and against Hugging Face."""
        rows = []
        for batch, precision in self.groups():
            for row in (r for r in self.rows if (r["batch_size"], r["precision"]) == (batch, precision)):
                what = row["name"] + (f", {row['target']:g}x" if row["target"] else "")
                base = row["name"].startswith("HF") and "layer" not in row["name"]
                rows.append(
                    [
                        *(str(batch), precision, what, f"{row['samples_per_second']:,.0f}", f"{row['p50']:.3g}"),
                        f"{row['speedup_flops']:.2f}",
                        *(["", ""] if base else [_number(row["speedup_wall"]), _number(row["wall_per_flops"])]),
                        _number(self.against(row, precision, "HF")),
                    ]
                )
        header = ["batch", "precision", "what", "samples/s", "p50 ms", "FLOPs", "wall", "wall/FLOPs", "vs HF"]
        return table(header, rows)

    def shares(self) -> str:
        """Where the time of `shrink` goes."""
        rows = [
            [
                *(str(s["batch_size"]), s["precision"], f"{s['target']:g}x"),
                *(f"{100 * s[part]:.1f} %" for part in ("embeddings", "layers", "heads", "deciding", "rest")),
                f"{100 * s['exits_per_layers']:.1f} %",
            ]
            for s in self.breakdown
        ]
        header = [
            "batch",
            "precision",
            "at",
            "embeddings",
            "layers",
            "heads",
            "policy",
            "rest",
            "heads + policy / layers",
        ]
        return table(header, rows)


def load() -> dict[str, Measurement]:
    """Name to measurement, in the order of `TITLES`."""
    found = {}
    for name in TITLES:
        path = bench.RESULTS / name / "bench.json"
        if path.exists():
            files = (path, path.parent / "shares" / "bench.json")
            found[name] = Measurement(name, *(json.loads(file.read_text(encoding="utf-8")) for file in files))
    return found


def best_ratios(measurements: dict[str, Measurement]) -> str:
    """The best engine's wall/FLOPs of every measurement, batch size, precision and speed-up."""
    rows = []
    for name, m in measurements.items():
        for batch, precision in m.groups():
            cells = []
            for target in (2.0, 3.0):
                found = [r for e in ENGINES if (r := m.find(precision, batch, e, target)) is not None]
                best = max(found, key=lambda r: float(r["wall_per_flops"]), default=None)
                cells.append("-" if best is None else f"{best['wall_per_flops']:.2f} ({best['name']})")
            rows.append([TITLES[name], str(batch), precision, *cells])
    return table(["measurement", "batch", "precision", "at 2x", "at 3x"], rows)


def whole_models(measurements: dict[str, Measurement]) -> str:
    """`full` against Hugging Face's model: in the order of the input, and sorted."""
    rows = []
    for name, m in measurements.items():
        for batch, precision in m.groups():
            full, plain = m.find(precision, batch, "full"), m.find(precision, batch, "plain")
            if full is None or plain is None:
                continue
            against = [m.against(row, precision, base) for row in (full, plain) for base in ("HF", "HF sorted")]
            rows.append([TITLES[name], str(batch), precision, *map(_number, against)])
    header = ["measurement", "batch", "precision", "full / HF", "full / HF sorted", "plain / HF", "plain / HF sorted"]
    return table(header, rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def write_report(page: Path) -> None:
    """Put the figures between the marks of docs/speed.md."""
    measurements = load()
    if not measurements:
        raise SystemExit(f"no measurements in {bench.RESULTS}; run: python benchmarks/speed.py run")
    parts = []
    for name, m in measurements.items():
        facts = ", ".join(
            f"{key} {m.setting[key]}" for key in ("exits", "texts", "device", "threads") if key in m.setting
        )
        details = f"*{facts}.*\n\n{m.table()}\n\nWhere the time of `shrink` goes:\n\n{m.shares()}\n\n> {m.verdict}"
        parts.append(f"#### {TITLES[name]}\n\n{details}")
    values = {
        "best_ratios": best_ratios(measurements),
        "whole_models": whole_models(measurements),
        "measurements": "\n\n".join(parts),
    }
    text = fill(Path(__file__).parent / "speed_report.md", values).strip()
    replace_between(page, MARKS, text)


if __name__ == "__main__":
    write_report(bench.ROOT / "docs" / "speed.md")
