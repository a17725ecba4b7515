"""The graphs of an export as one graph without early exit, `mebert bench`'s rival: all layers, and the last exit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import helper
from onnx.compose import add_prefix_graph
from onnx.utils import Extractor

from mebert.onnx.asked import load_plain


def whole_graph(folder: Path, exits: Sequence[str]) -> onnx.ModelProto:
    """The graphs of a chain after each other, as fused and as quantised as they are, without the exits before the last.

    Args:
        folder: With `embed.onnx` and the exits' graphs.
        exits: The names of these.

    Returns:
        Inputs of `embed.onnx` (and `average`, of texts in windows) to `logits`, (B, C).
    """
    nodes, weights, given = list[onnx.NodeProto](), list[onnx.TensorProto](), dict[str, str]()
    inputs, outputs = dict[str, onnx.ValueInfoProto](), list[onnx.ValueInfoProto]()
    versions: dict[str, int] = {}
    for number, name in enumerate(("embed.onnx", *exits)):
        part = load_plain(folder / name)
        for value in part.graph.input:
            if value.name not in given:
                inputs[value.name], given[value.name] = value, value.name
        reads = {value.name: given[value.name] for value in part.graph.input}
        outputs = list(part.graph.output)
        graph = add_prefix_graph(part.graph, f"{number}/", rename_inputs=False, name_map=reads)
        nodes += graph.node
        weights += graph.initializer
        left = [f"{number}/{value.name}" for value in outputs]
        kept = zip(("hidden", "bias"), left, strict=False) if not number else [("hidden", left[0])]
        given |= dict(kept) | {f"carried_{place}": value for place, value in enumerate(left[3:])}
        versions |= {one.domain: one.version for one in part.opset_import}
    logits = helper.make_tensor_value_info(left[1], onnx.TensorProto.FLOAT, None)
    joined = helper.make_model(
        helper.make_graph(nodes, "whole", list(inputs.values()), [logits], weights),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in versions.items()],
        ir_version=part.ir_version,
    )
    found: onnx.ModelProto = Extractor(joined).extract_model([*inputs], [left[1]])
    return found
