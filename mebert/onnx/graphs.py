"""The graphs of a model: `embed`, and one an exit with the layers up to it.

Shapes: B batch, S tokens, H hidden, A attention heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
import torch
from onnx import TensorProto, helper
from onnx.compose import add_prefix
from torch import Tensor
from torch.export import Dim

from mebert.errors import UserError
from mebert.models.multi_exit import MultiExitModel
from mebert.onnx.layer_graph import ACTIVATIONS, OPSETS, LayerGraph
from mebert.onnx.traced import Embeddings, ExitStep, traced
from mebert.policies.base import ExitPolicy

ROWS = Dim.DYNAMIC


@dataclass
class ExitGraph:
    """A graph, and whether its layers are fused.

    Attributes:
        graph: Inputs `hidden`, `attention_mask`, `bias` where the family has one, and `carried`; outputs the same
            without the mask, with `logits` and `score` after `hidden`.
        fused: Whether the layers are ONNX Runtime's fused operators.
    """

    graph: onnx.ModelProto
    fused: bool


def example(model: MultiExitModel) -> dict[str, Tensor]:
    """A batch of three texts of up to seven tokens, on which modules are traced."""
    ids = torch.arange(21).reshape(3, 7) % (model.adapter.config.vocab_size - 1) + 1
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def embedding_graph(model: MultiExitModel, segments: bool) -> onnx.ModelProto:
    """Token ids, and segment ids with `segments`, to the first hidden states and the attention bias, if any."""
    batch = example(model)
    args = (*batch.values(), torch.zeros_like(batch["input_ids"]))[: 3 if segments else 2]
    outputs = ["hidden"] if model.adapter.attention_bias(1) is None else ["hidden", "bias"]
    sizes = tuple({0: ROWS, 1: ROWS} for _ in args)
    return traced(
        Embeddings(model), args, ["input_ids", "attention_mask", "token_type_ids"][: len(args)], outputs, sizes
    )


def exit_graphs(model: MultiExitModel, policy: ExitPolicy, windows: bool) -> Iterator[ExitGraph]:
    """The graph of each exit in turn, with the layers between it and the exit before.

    Args:
        model: In evaluation mode, float32.
        policy: Bound to the model.
        windows: Texts are read in windows: a further input `average` has the weights of their means, (B, n).
    """
    if type(policy).decide is not ExitPolicy.decide and policy.name != "fixed":
        raise UserError(f"export: the policy {policy.name!r} decides by more than a score; calibrate --use another")
    policy = policy.with_threshold(1.0)
    batch = example(model)
    with torch.no_grad():
        state = model.start(**batch)
    hidden, carried, structure = state.hidden, list[Tensor](), None
    average = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]) if windows else None
    depth, fused = 0, _can_fuse(model)
    for index, layer in enumerate(model.exit_layers):
        part = _fused_layers(model, depth, layer) if fused else None
        if part is not None:
            with torch.no_grad():
                state = model.adapter.advance(state, layer)
            hidden = state.hidden
        step = ExitStep(model, policy, index, depth if part is None else layer)
        step.structure = structure
        with torch.no_grad():
            after, *rest = step(hidden, batch["attention_mask"], carried, average)
        left, structure = rest[2:], step.left
        names = [f"carried_{n}" for n in range(len(carried))]
        given = ["hidden" if part is None else part.hidden, "attention_mask", *names, *["average"] * windows]
        found = ["after" if part is not None else "deeper", "logits", "score", *(f"left_{n}" for n in range(len(left)))]
        sizes = ({0: ROWS, 1: ROWS}, {0: ROWS, 1: ROWS}, [{0: ROWS} for _ in carried], {0: ROWS, 1: ROWS})
        args = (hidden, batch["attention_mask"], carried, average)
        graph = traced(step, args if windows else args[:3], given, found, sizes if windows else sizes[:3])
        yield ExitGraph(graph if part is None else _joined(part, graph, f"exit_{index + 1}."), fused)
        hidden, carried, depth = after, left, layer


def _can_fuse(model: MultiExitModel) -> bool:
    return model.adapter.layer_parts is not None and _activation(model) in ACTIVATIONS


def _activation(model: MultiExitModel) -> str:
    config = model.adapter.config
    return str(getattr(config, "hidden_act", getattr(config, "activation", "gelu")))


def _fused_layers(model: MultiExitModel, first: int, last: int) -> LayerGraph:
    adapter, parts = model.adapter, model.adapter.layer_parts
    assert parts is not None
    made = LayerGraph("hidden", "mask", None if adapter.attention_bias(1) is None else "bias")
    for index in range(first, last):
        for number, layer in enumerate(adapter.layers_of(index)):
            made.add(layer, parts, _activation(model), index + 1 if not number else (index + 1) * 1000 + number)
    return made


def _joined(layers: LayerGraph, head: onnx.ModelProto, prefix: str) -> onnx.ModelProto:
    """The layers, then the exit, as one graph."""
    head = add_prefix(head, prefix, rename_inputs=False, rename_outputs=False)
    sizes = ["batch", "tokens"]
    width = next(v for v in head.graph.input if v.name == layers.hidden).type.tensor_type.shape.dim[2].dim_value
    inputs = [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*sizes, width])]
    inputs += [v for v in head.graph.input if v.name != layers.hidden]
    if layers.bias is not None:
        inputs.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1, None, "tokens", "tokens"]))
    if not any(v.name == "attention_mask" for v in inputs):
        inputs.insert(1, helper.make_tensor_value_info("attention_mask", TensorProto.INT64, sizes))
    cast = helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.INT32)
    copied, *outputs = head.graph.output  # of the layers' hidden states, which are an output themselves
    hidden = helper.make_tensor_value_info(layers.hidden, TensorProto.FLOAT, [*sizes, width])
    graph = helper.make_graph(
        [cast, *layers.nodes, *(node for node in head.graph.node if copied.name not in node.output)],
        prefix.strip("."),
        inputs,
        [hidden, *outputs],
        [*layers.weights, *head.graph.initializer],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=head.ir_version)
