"""ONNX Runtime among what is measured: the whole model as one graph, and the chain of graphs that `export` writes.

Shapes: N samples, E exits, B batch, n windows of its texts (B where texts are not read in windows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mebert.commands.bench.bench_model import BenchModel
from mebert.commands.bench.command import BenchSettings, Grid
from mebert.commands.bench.points import RECORD_BATCH, OperatingPoint
from mebert.data.tokenised import TokenisedSplit
from mebert.exit_predictor.fitting import score_rows
from mebert.inference import Engine, Finished
from mebert.models.windows import flat_windows, mean_of_windows
from mebert.storage.thresholds import Threshold

Graph = tuple[Any, list[str]]  # a session and the names of its inputs
OnnxPrecision = Literal["float32", "int8"]
PRECISIONS: tuple[OnnxPrecision, ...] = ("float32", "int8")
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class OnnxGraphs:
    """A model's graphs in one precision, loaded.

    Attributes:
        chain: The embeddings and each exit.
        whole: All layers and the last exit in one.
        thresholds: Of each operating point, by its policy and its speed-up.
    """

    chain: list[Graph]
    whole: Graph
    thresholds: dict[tuple[str, float], Threshold]


def left_out(settings: BenchSettings, grid: Grid, device: torch.device) -> str | None:
    """Why ONNX Runtime is not measured; empty where it was not asked for, None where it is measured."""
    wanted = set(PRECISIONS) & set(settings.precisions or PRECISIONS)
    if not wanted or device.type != "cpu" or "onnx" not in (*grid.baselines, *grid.engines):
        return ""
    if all(find_spec(name) is not None for name in PACKAGES):
        return None
    return "ONNX Runtime is not measured, as it is not installed: pip install 'mebert[export]'"


def onnx_graphs(
    settings: BenchSettings, measured: BenchModel, rows: TokenisedSplit, points: Sequence[OperatingPoint]
) -> dict[OnnxPrecision, OnnxGraphs]:
    """The graphs of each precision.

    Args:
        settings: Of the command.
        measured: The model; the chain has the first of its policies.
        rows: What is measured, (N,).
        points: The operating points of a precision.

    Raises:
        UserError: The model or the policy has no form in ONNX.
    """
    from mebert.onnx.export import quantise_graphs, write_graphs

    model, policy = measured.model, measured.policies[0]
    thresholds = _thresholds(measured, rows, points)
    found = dict[OnnxPrecision, OnnxGraphs]()
    with TemporaryDirectory(prefix="mebert_bench_") as made:
        folder = Path(made)
        names, _ = write_graphs(model, policy, rows.token_types is not None, rows.window is not None, folder)
        for precision in PRECISIONS:
            if settings.precisions is None or precision in settings.precisions:
                own = folder / precision
                own.mkdir()
                (own / "embed.onnx").symlink_to(folder / "embed.onnx")
                if precision == "int8":
                    quantise_graphs(folder, names, own)
                else:
                    for name in names:
                        (own / name).symlink_to(folder / name)
                found[precision] = _loaded(own, names, thresholds)
    return found


def _loaded(folder: Path, names: Sequence[str], thresholds: dict[tuple[str, float], Threshold]) -> OnnxGraphs:
    import onnx

    from mebert.onnx.runner import open_graph
    from mebert.onnx.whole_graph import whole_graph

    threads = torch.get_num_threads()
    onnx.save(whole_graph(folder, names), folder / "whole.onnx")
    whole, *chain = (open_graph(folder / name, threads) for name in ("whole.onnx", "embed.onnx", *names))
    return OnnxGraphs(chain, whole, thresholds)


def _thresholds(
    measured: BenchModel, rows: TokenisedSplit, points: Sequence[OperatingPoint]
) -> dict[tuple[str, float], Threshold]:
    """The thresholds of the points of the chain's policy; where exits are drawn, those at which as many leave."""
    policy = measured.policies[0]
    mine = [point for point in points if point.name == policy.name]
    if measured.trained:
        return {(point.name, point.target): point.policy.threshold for point in mine}
    scores = score_rows(measured.model, policy, rows, "token", RECORD_BATCH).scores
    drawn = {point.target: point.drawn for point in mine if point.drawn is not None}
    return {(policy.name, target): thresholds_of_shares(scores, exits.cpu()) for target, exits in drawn.items()}


def thresholds_of_shares(scores: Tensor, exits: Tensor) -> tuple[float, ...]:
    """A threshold for each exit but the last, (E - 1,), at which as many samples leave there as were drawn.

    Args:
        scores: (E, N) float32.
        exits: Drawn exits, (N,) int64.

    >>> scores = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.5, 0.6], [0.0, 0.0, 0.0]])
    >>> [round(threshold, 2) for threshold in thresholds_of_shares(scores, torch.tensor([2, 1, 0]))]
    [0.15, 0.55]
    """
    left, found = torch.arange(scores.shape[1]), list[float]()
    for index, wanted in enumerate(torch.bincount(exits, minlength=len(scores))[:-1].tolist()):
        ranked, order = scores[index, left].double().sort()
        ends = [0.0, *ranked.tolist(), 2 * float(ranked[-1]) + 1.0] if len(left) else [0.0, 0.0]
        found.append((ends[wanted] + ends[wanted + 1]) / 2 if wanted else 0.0)
        left = left[order[wanted:]]
    return tuple(found)


class OnnxChain(Engine):
    """The chain of an export as an engine: like `shrink`, nothing waits. At the threshold 0 all layers run."""

    def __init__(self, graphs: OnnxGraphs, threshold: Threshold) -> None:
        self.graphs, self.threshold = graphs, threshold

    def feed(self, inputs: dict[str, Tensor], rows: Tensor) -> Finished:
        from mebert.onnx.runner import run_chain

        feed, windows = _arrays(inputs)
        text_of = np.arange(len(rows)) if windows is None else np.repeat(np.arange(len(rows)), windows)
        logits, exits = run_chain(self.graphs.chain, feed, text_of, self.threshold)
        return Finished(rows, torch.from_numpy(logits), torch.from_numpy(exits))

    def flush(self) -> Finished:
        return Finished.empty([1], torch.device("cpu"))


class OnnxWhole(OnnxChain):
    """The whole model as one graph."""

    def feed(self, inputs: dict[str, Tensor], rows: Tensor) -> Finished:
        feed, windows = _arrays(inputs)
        session, names = self.graphs.whole
        if windows is not None:
            feed["average"] = np.eye(len(feed["input_ids"]), dtype=np.float32)  # each window by itself
        (logits,) = session.run(None, {name: feed[name] for name in names})
        exits = torch.full_like(rows, len(self.graphs.chain) - 2)
        return Finished(rows, mean_of_windows(torch.from_numpy(logits), windows), exits)


def _arrays(inputs: dict[str, Tensor]) -> tuple[dict[str, Any], np.ndarray | None]:
    """Inputs of windows (n, S) as arrays, without a copy, and the number of windows of each text, if it has any."""
    (ids, mask, types), windows = flat_windows(**inputs)
    types = torch.zeros_like(ids) if types is None else types
    return {"input_ids": ids.numpy(), "attention_mask": mask.numpy(), "token_type_ids": types.numpy()}, windows
