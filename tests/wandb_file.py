"""What a run of Weights & Biases has written, read back from its file (W&B ships messages for it, but no reader)."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768  # the format is that of LevelDB's log, after seven bytes of W&B's own
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """The complete records of a .wandb file as W&B's messages; the last one may be half written while a run goes on."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, whole = 7, b""
    while place < len(data):
        if BLOCK - place % BLOCK < 7:  # too little for a header: filled up
            place += BLOCK - place % BLOCK
            continue
        if place + 7 > len(data):
            return
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        if place + 7 + length > len(data):
            return
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


class WandbRun:
    """A run's records, sorted: `run`, `config`, `metrics`, `history`, `summary`, `artifacts`."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("*.wandb")
        self.folder = folder
        self.run: Any = None
        self.config: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.artifacts: list[Any] = []
        self.finished: int | None = None
        for record in records(path):
            kind = record.WhichOneof("record_type")
            content = getattr(record, kind)
            if kind == "run":
                self.run = content
                self._put(self.config, content.config.update)
            elif kind == "config":
                self._put(self.config, content.update)
            elif kind == "summary":
                self._put(self.summary, content.update)
            elif kind == "history":
                self.history.append({})
                self._put(self.history[-1], content.item)
            elif kind == "metric":
                self.metrics[content.name or content.glob_name] = content
            elif kind == "artifact":
                self.artifacts.append(content)
            elif kind == "exit":
                self.finished = content.exit_code

    @staticmethod
    def _put(into: dict[str, Any], items: Any) -> None:
        for item in items:
            keys = list(item.nested_key) or [item.key]
            place = into
            for key in keys[:-1]:
                place = place.setdefault(key, {})
            place[keys[-1]] = json.loads(item.value_json)

    def values(self, name: str) -> list[tuple[int, float]]:
        """(global step, value) of a metric, in order."""
        return [(row["trainer/global_step"], row[name]) for row in self.history if name in row]

    def table(self, name: str) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows of the last table of that name."""
        found = [row[name] for row in self.history if name in row][-1]
        assert found["_type"] == "table-file"
        content = json.loads((self.folder / "files" / found["path"]).read_text(encoding="utf-8"))
        return content["columns"], content["data"]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The last table of that name, row by row."""
        columns, rows = self.table(name)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def chart(self, name: str) -> dict[str, Any]:
        """How a chart is to be drawn."""
        found: dict[str, Any] = self.config["_wandb"]["visualize"][name]["panel_config"]
        return found

    def files(self, type: str) -> dict[str, Path]:
        """Name to the waiting copy of every file of the artifacts of a type."""
        chosen = [artifact for artifact in self.artifacts if artifact.type == type]
        return {entry.path: Path(entry.local_path) for artifact in chosen for entry in artifact.manifest.contents}


def offline_runs(folder: Path, patience: float = 20.0) -> list[WandbRun]:
    """All finished offline runs below a folder of experiments, in the order of their start.

    W&B's service writes the last records a moment after the run was finished: they are waited for, in seconds.
    """
    give_up = time.monotonic() + patience
    while True:
        found = [WandbRun(path) for path in sorted((folder / "wandb").glob("offline-run-*"))]
        if all(run.finished is not None for run in found) or time.monotonic() > give_up:
            return found
        time.sleep(0.1)
