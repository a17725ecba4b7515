"""What was measured, in words: the head of the report and the captions of its tables."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import mebert
from mebert.bench.settings import BenchSettings
from mebert.bench.subject import Subject
from mebert.data.tokenised import TokenisedSplit

__all__ = ["describe", "explain_columns", "folder_name"]


def describe(
    settings: BenchSettings,
    subject: Subject,
    rows: TokenisedSplit,
    device: torch.device,
    precisions: Sequence[str],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The setting of a measurement, as plain values for the report and for JSON."""
    model, lengths = subject.model, rows.lengths
    origin = f"{settings.task} {settings.split}" if settings.task else settings.texts
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device}, {_cpu_name()}"
    return {
        "model": f"{subject.name}: {model.walk.config.model_type}, {model.num_layers} layers of {model.hidden_size}, "
        f"exits after {', '.join(map(str, model.exit_layers))}, pooling {model.pooling}",
        "exits": "as trained" if subject.trained else "drawn to meet each speed-up; heads and policy are paid for",
        "texts": f"{origin or f'random tokens, lengths {settings.lengths}'}: {len(rows):,} samples of "
        f"{lengths.mean():.1f} tokens on average ({lengths.min()} to {lengths.max()})",
        "device": name,
        "threads": torch.get_num_threads(),
        "precisions": ", ".join(precisions),
        "compile": settings.compile or "",
        "versions": f"torch {torch.__version__}, mebert {mebert.__version__}",
        "notes": "; ".join(notes),
    }


def explain_columns(subject: Subject) -> str:
    """What the columns of the tables mean."""
    lines = [
        "HF: Hugging Face's own classifier, input order, padded to the longest of a batch: the usual way.",
        "plain: this package's model without early exits, sorted by length.",
        "wall: speed-up in seconds; of engines against plain, of plain and HF k layers against HF sorted.",
        "FLOPs: fewer than the whole model's, at true lengths. wall/FLOPs: 1 where all arithmetic saved is time saved.",
        "p50, p95, p99: ms from handing over a batch to a sample's answer; refill and predicted let samples wait.",
    ]
    if not subject.trained:
        lines.append("Exits are drawn, and predicted knows them beforehand.")
    return "\n".join(lines)


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def folder_name(name: str) -> str:
    """A name that can be a folder."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name).strip("_")
