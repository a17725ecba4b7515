"""All graphs of an export as one, `model.onnx`, for a single text: an `If` after each exit holds the layers beyond it.

Any language with ONNX Runtime leaves early by it: the branch that is not taken is not run. The parts are the files of
the chain, already fused and quantised; a weight that several layers share (ALBERT) is kept once, as inner graphs see
the values of outer ones. Shapes: n windows of the text (1 where texts are cut), S tokens, C labels, E exits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.compose import add_prefix_graph
from onnx.utils import Extractor

from mebert.errors import UserError
from mebert.onnx.asked import load_plain
from mebert.onnx.runner import Threshold, Windows, open_graph

NAME = "model.onnx"
LARGEST = 2**31 - 1  # bytes of a protobuf file
DEEPEST = 32  # exits: an If is three messages in each other, and protobuf reads a hundred
OUTPUTS: dict[
    str, list[tuple[str, int, list[str | int]]]
] = {  # of a problem_type: name, type and dimensions, after which stand those of every model
    "regression": [("score", TensorProto.FLOAT, [])],
    "multi_label_classification": [("probabilities", TensorProto.FLOAT, ["C"]), ("labels", TensorProto.INT32, ["C"])],
    "single_label_classification": [("probabilities", TensorProto.FLOAT, ["C"]), ("label", TensorProto.INT32, [])],
}


class _Nested:
    """The graphs of a chain, put into each other from the first exit on."""

    def __init__(self, exits: Sequence[onnx.ModelProto], shared: dict[str, str]) -> None:
        self.exits, self.shared = exits, shared
        self.known: dict[tuple[Any, ...], str] = {}  # content of a weight to its name

    def inlined(
        self, model: onnx.ModelProto, prefix: str, given: dict[str, str], outputs: Sequence[str]
    ) -> tuple[list[NodeProto], list[TensorProto]]:
        """What gives some outputs of a graph, whose inputs have the names of values outside: nodes and new weights."""
        found = Extractor(model).extract_model([value.name for value in model.graph.input], list(outputs)).graph
        names, weights = dict(given), list[TensorProto]()
        for weight in found.initializer:
            content = (weight.data_type, *weight.dims, hashlib.sha256(numpy_helper.to_array(weight).tobytes()).digest())
            own = prefix + weight.name
            names[weight.name] = self.known.setdefault(content, own)
            if names[weight.name] == own:
                weights.append(TensorProto())
                weights[-1].CopyFrom(weight)
                weights[-1].name = own
        keep = dict.fromkeys(("rename_inputs", "rename_initializers", "rename_value_infos"), False)
        found = add_prefix_graph(found, prefix, **keep, name_map=names)
        return list(found.node), weights

    def body(self, index: int, given: dict[str, str]) -> tuple[list[NodeProto], list[TensorProto], list[str]]:
        """Nodes and weights from an exit to the last one, and the names of the logits and of the exit's number."""
        model, prefix = self.exits[index], f"exit_{index + 1}/"
        outputs = [value.name for value in model.graph.output]
        hidden, logits, score, *left = (prefix + name for name in outputs)
        number = numpy_helper.from_array(np.asarray(index + 1, np.int32))
        if index + 1 == len(self.exits):
            nodes, weights = self.inlined(model, prefix, given | self.shared, outputs[1:2])
            nodes.append(helper.make_node("Constant", [], [f"{prefix}number"], value=number))
            return nodes, weights, [logits, f"{prefix}number"]
        nodes, weights = self.inlined(model, prefix, given | self.shared, outputs)
        deeper, inner, names = self.body(
            index + 1, {"hidden": hidden, **{f"carried_{n}": name for n, name in enumerate(left)}}
        )
        here = [f"{prefix}here.logits", f"{prefix}here.number"]
        leaving = [
            helper.make_node("Identity", [logits], here[:1]),
            helper.make_node("Constant", [], here[1:], value=number),
        ]
        place = numpy_helper.from_array(np.asarray(index, np.int64), f"{prefix}place")
        answer = [f"{prefix}answer.logits", f"{prefix}answer.number"]
        nodes += [
            helper.make_node("Gather", ["thresholds", place.name], [f"{prefix}threshold"]),
            helper.make_node("Less", [score, f"{prefix}threshold"], [f"{prefix}leaves"]),
            helper.make_node(
                "If",
                [f"{prefix}leaves"],
                answer,
                then_branch=helper.make_graph(leaving, "leaves", [], _answers(here)),
                else_branch=helper.make_graph(deeper, "stays", [], _answers(names), inner),
            ),
        ]
        return nodes, [*weights, place], answer


def single_graph(folder: Path, exits: Sequence[str], problem: str, windows: bool) -> onnx.ModelProto:
    """The graphs of an export in one.

    Args:
        folder: With `embed.onnx` and the exits' graphs.
        exits: The names of these.
        problem: The `problem_type`, which says what the answers are.
        windows: Texts are read in windows: a row for each of those of the text.

    Raises:
        UserError: More than a file of ONNX can hold.
    """
    if len(exits) > DEEPEST:
        raise UserError(
            f"single_graph: a file of ONNX can hold {DEEPEST} exits one in the other, and this model has {len(exits)}; "
            "leave out --single_graph, or train fewer, by --model.exit_layers"
        )
    files = [folder / name for name in ("embed.onnx", *exits)]
    size = sum(file.stat().st_size for file in files)
    if size > LARGEST:
        raise UserError(
            f"single_graph: the graphs have {size / 1e9:.1f} GB and one file of ONNX can hold 2.1; leave out "
            "--single_graph, or take --precision int8"
        )
    embed, *parts = map(load_plain, files)
    first, *rest = embed.graph.output
    reads = [value.name for value in embed.graph.input]
    shared = {"attention_mask": "attention_mask", **{value.name: f"embed/{value.name}" for value in rest}}
    nested = _Nested(parts, shared | ({"average": "average"} if windows else {}))
    nodes, weights = nested.inlined(
        embed, "embed/", {name: name for name in reads}, [value.name for value in embed.graph.output]
    )
    constants = {"flat": [-1], "count": [max(1, len(parts) - 1)], "row": [0]}
    weights += [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in constants.items()]
    before = [
        helper.make_node("Reshape", ["threshold", "flat"], ["given"]),
        helper.make_node("Expand", ["given", "count"], ["thresholds"]),
    ]
    if windows:  # the mean of the text's windows
        one = numpy_helper.from_array(np.ones(1, np.float32))
        before += [
            helper.make_node("Shape", ["input_ids"], ["rows"], start=0, end=1),
            helper.make_node("ConstantOfShape", ["rows"], ["ones"], value=one),
            helper.make_node("ReduceSum", ["ones"], ["total"], keepdims=1),
            helper.make_node("Div", ["ones", "total"], ["weights"]),
            helper.make_node("Unsqueeze", ["weights", "row"], ["average"]),
        ]
    body, more, (logits, number) = nested.body(0, {"hidden": f"embed/{first.name}"})
    texts = "windows" if windows else 1
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [texts, "tokens"]) for name in _inputs(reads)]
    inputs.append(helper.make_tensor_value_info("threshold", TensorProto.FLOAT, None))
    logit_sizes: list[str | int] = ["C", 2] if problem == "multi_label_classification" else ["C"]
    last = [("exit", TensorProto.INT32, list[str | int]()), ("logits", TensorProto.FLOAT, logit_sizes)]
    graph = helper.make_graph(
        [*before, *nodes, *body, *_answer(problem, logits, number)],
        "early_exit",
        inputs,
        [helper.make_tensor_value_info(*answer) for answer in (*OUTPUTS[problem], *last)],
        [*weights, *more],
    )
    versions: dict[str, int] = {}
    for model in (embed, *parts):
        versions |= {o.domain: max(o.version, versions.get(o.domain, 0)) for o in model.opset_import}
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(*pair) for pair in versions.items()],
        ir_version=max(model.ir_version for model in (embed, *parts)),
        functions=list({(f.domain, f.name): f for model in (embed, *parts) for f in model.functions}.values()),
    )


def _inputs(reads: Sequence[str]) -> list[str]:
    return ["input_ids", "attention_mask", *(name for name in reads if name == "token_type_ids")]


def _answer(problem: str, logits: str, number: str) -> list[NodeProto]:
    """From the logits (1, C), of several labels (1, C, 2), to the outputs of a problem."""
    nodes = [
        helper.make_node("Squeeze", [logits, "row"], ["logits"]),
        helper.make_node("Identity", [number], ["exit"]),
    ]
    if problem == "regression":
        return [*nodes, helper.make_node("Squeeze", ["logits"], ["score"])]
    nodes.append(helper.make_node("Softmax", ["logits"], ["shares"], axis=-1))
    kind = "label"
    if problem == "multi_label_classification":
        kind, yes = "labels", numpy_helper.from_array(np.asarray(1, np.int64))
        nodes.append(helper.make_node("Constant", [], ["yes"], value=yes))
        nodes.append(helper.make_node("Gather", ["shares", "yes"], ["probabilities"], axis=-1))
    else:
        nodes.append(helper.make_node("Identity", ["shares"], ["probabilities"]))
    nodes.append(helper.make_node("ArgMax", ["logits"], ["chosen"], axis=-1, keepdims=0))
    return [*nodes, helper.make_node("Cast", ["chosen"], [kind], to=TensorProto.INT32)]


def _answers(names: Sequence[str]) -> list[onnx.ValueInfoProto]:
    logits, number = names
    return [
        helper.make_tensor_value_info(logits, TensorProto.FLOAT, None),
        helper.make_tensor_value_info(number, TensorProto.INT32, []),
    ]


class SingleGraph:
    """`model.onnx`, with the method of the runner by which an export is compared with PyTorch."""

    def __init__(self, path: Path, pad: int) -> None:
        self.session, _ = open_graph(path, None)
        self.pad = pad

    def run(self, texts: Sequence[Windows], threshold: Threshold) -> tuple[np.ndarray, np.ndarray]:
        """Logits (B, C), of several labels (B, C, 2), and exits (B,), from 0, text by text."""
        answers = [self.answer(text, threshold) for text in texts]
        return np.stack([one["logits"] for one in answers]), np.stack([one["exit"] - 1 for one in answers])

    def answer(self, windows: Windows, threshold: Threshold) -> dict[str, np.ndarray]:
        """All outputs for a text by their names."""
        names = [value.name for value in self.session.get_outputs()]
        feed = {**self.feed(windows), "threshold": np.asarray(threshold, np.float32)}
        return dict(zip(names, self.session.run(names, feed), strict=True))

    def feed(self, windows: Windows) -> dict[str, np.ndarray]:
        """The inputs of a text but for the threshold, (n, S) int64."""
        mask = np.zeros((len(windows), max(len(ids) for ids, _ in windows)), np.int64)
        feed = {"input_ids": np.full_like(mask, self.pad), "attention_mask": mask, "token_type_ids": mask.copy()}
        for row, (ids, segments) in enumerate(windows):
            mask[row, : len(ids)] = 1
            feed["input_ids"][row, : len(ids)], feed["token_type_ids"][row, : len(ids)] = ids, segments
        named = [value.name for value in self.session.get_inputs()]
        return {name: values for name, values in feed.items() if name in named}
