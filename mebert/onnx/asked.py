"""An exit of a graph as an `If`: its logits and its score are computed only where a runner asks for them.

ONNX Runtime computes all of a graph, whatever outputs are wanted. At an exit where no text may leave (at full depth
none before the last) the layers alone are run, as `ExitPolicy.may_leave` has it for PyTorch.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

ASK = "ask"
INNER = "asked."  # begins the names of the branch's outputs


def with_question(model: ModelProto) -> ModelProto:
    """A graph of an exit (outputs: hidden states, then logits and score), with a further input: whether to compute it.

    Where the answer is no, logits and score are empty. A graph that carries a state on to the next exit stays as it is.
    """
    graph = model.graph
    if len(graph.output) != 3:
        return model
    hidden, *answers = graph.output
    needed, layers, head = {hidden.name}, list[onnx.NodeProto](), list[onnx.NodeProto]()
    for node in reversed(graph.node):
        mine = any(name in needed for name in node.output)
        (layers if mine else head).insert(0, node)
        needed |= set(node.input) if mine else set()
    outputs = {value.name for value in answers}
    if not outputs.isdisjoint(name for node in layers for name in node.output):
        return model  # what the layers give is the answer
    branches = [
        helper.make_graph(_renamed(head, outputs), "yes", [], [_float(INNER + value.name) for value in answers]),
        helper.make_graph(
            [
                helper.make_node("Constant", [], [f"un{INNER}{value.name}"], value=_empty(value.name))
                for value in answers
            ],
            "no",
            [],
            [_float(f"un{INNER}{value.name}") for value in answers],
        ),
    ]
    names = [value.name for value in answers]
    question = helper.make_node("If", [ASK], names, then_branch=branches[0], else_branch=branches[1])
    inputs = [*graph.input, helper.make_tensor_value_info(ASK, TensorProto.BOOL, [])]
    outs = [hidden, *map(_float, names)]
    made = helper.make_graph([*layers, question], graph.name, inputs, outs, list(graph.initializer))
    return _model(made, model)


def load_plain(path: Path) -> ModelProto:
    """The graph of a file without the question, as if the answer was always yes."""
    model = onnx.load(path)
    graph = model.graph
    if not any(value.name == ASK for value in graph.input):
        return model
    *layers, question = graph.node
    head: GraphProto = next(a.g for a in question.attribute if a.name == "then_branch")
    inner = {value.name for value in head.output}
    nodes = [*layers, *_renamed(head.node, inner, back=True)]
    inputs = [value for value in graph.input if value.name != ASK]
    made = helper.make_graph(nodes, graph.name, inputs, list(graph.output), list(graph.initializer))
    return _model(made, model)


def _renamed(nodes: list[onnx.NodeProto], outputs: set[str], back: bool = False) -> list[onnx.NodeProto]:
    """Nodes with other names of some values: with `INNER` before them, or `back` to those without."""
    found = list[onnx.NodeProto]()
    for node in nodes:
        found.append(onnx.NodeProto())
        found[-1].CopyFrom(node)
        for values in (found[-1].input, found[-1].output):
            for place, name in enumerate(values):
                if name in outputs:
                    values[place] = name.removeprefix(INNER) if back else INNER + name
    return found


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _empty(name: str) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [0], [])


def _model(graph: GraphProto, like: ModelProto) -> ModelProto:
    return helper.make_model(graph, opset_imports=list(like.opset_import), ir_version=like.ir_version)
