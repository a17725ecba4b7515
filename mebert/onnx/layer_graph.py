"""One transformer layer of BERT's shape as an ONNX graph of ONNX Runtime's fused operators.

The weights come from Hugging Face's layer by the names in `LayerParts`, as for the fused layers in PyTorch
(`mebert.inference.fused`). Operators of the domain `com.microsoft`: one product for query, key and value with the
attention after it, the residual sum with its LayerNorm, and a bias with GELU.
Shapes: B batch, S tokens, H hidden, I the inner width of the feed-forward part, A attention heads.
"""

from __future__ import annotations

from dataclasses import asdict
from operator import attrgetter
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from mebert.models.encoder import LayerParts

ACTIVATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {  # of Hugging Face: domain, operator, attributes
    "gelu": ("com.microsoft", "BiasGelu", {}),
    "gelu_new": ("com.microsoft", "FastGelu", {}),
    "gelu_fast": ("com.microsoft", "FastGelu", {}),
    "gelu_pytorch_tanh": ("com.microsoft", "FastGelu", {}),
    "quick_gelu": ("com.microsoft", "QuickGelu", {"alpha": 1.702}),
    "silu": ("com.microsoft", "QuickGelu", {"alpha": 1.0}),
    "swish": ("com.microsoft", "QuickGelu", {"alpha": 1.0}),
    "relu": ("", "Relu", {}),
    "tanh": ("", "Tanh", {}),
}
"""The activations that fused layers have; a layer with another one is exported by PyTorch."""

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
MICROSOFT = "com.microsoft"


class LayerGraph:
    """Nodes and weights of some layers, one after the other; the names of values begin with the layer's number.

    Args:
        hidden: Name of the input, (B, S, H) float32.
        mask: Name of the tokenizer's mask, (B, S) int32.
        bias: Name of what is added to the attention scores, (1 or B, A, S, S); None: nothing.
    """

    def __init__(self, hidden: str, mask: str, bias: str | None) -> None:
        self.hidden, self.mask, self.bias = hidden, mask, bias
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, layer: Any, parts: LayerParts, activation: str, number: int) -> None:
        """Append a Hugging Face layer."""
        found = {part: attrgetter(path)(layer) for part, path in asdict(parts).items() if isinstance(path, str)}
        name, before = f"layer_{number}", self.hidden
        inner_norm, outer_norm = found["attention_norm"], found["output_norm"]
        read = self._norm(f"{name}.attention_norm", before, inner_norm) if parts.norm_first else before
        linears = [found[part] for part in ("query", "key", "value")]
        qkv = self._weight(f"{name}.qkv", torch.cat([linear.weight for linear in linears]).T)
        qkv_bias = self._weight(f"{name}.qkv_bias", torch.cat([linear.bias for linear in linears]))
        inputs = [read, qkv, qkv_bias, self.mask, "", self.bias or ""]
        context = self._node("Attention", inputs, f"{name}.context", MICROSOFT, num_heads=int(found["heads"]))
        out = self._product(f"{name}.out", context, found["out"])
        if parts.norm_first:
            middle = self._sum(f"{name}.middle", [out, before], found["out"].bias)
            read = self._norm(f"{name}.output_norm", middle, outer_norm)
        else:
            read = middle = self._add_norm(f"{name}.middle", out, before, inner_norm, found["out"].bias)
        up = self._activated(f"{name}.inner", self._product(f"{name}.up", read, found["up"]), found["up"], activation)
        down = self._product(f"{name}.down", up, found["down"])
        if parts.norm_first:
            self.hidden = self._sum(f"{name}.hidden", [down, middle], found["down"].bias)
        else:
            self.hidden = self._add_norm(f"{name}.hidden", down, middle, outer_norm, found["down"].bias)

    def _weight(self, name: str, value: Tensor) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value.detach().float().numpy()), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def _product(self, name: str, value: str, linear: Any) -> str:
        return self._node("MatMul", [value, self._weight(f"{name}.weight", linear.weight.T)], name)

    def _sum(self, name: str, values: list[str], bias: Tensor) -> str:
        biased = self._node("Add", [values[0], self._weight(f"{name}.bias", bias)], f"{name}.biased")
        return self._node("Add", [biased, values[1]], name)

    def _norm(self, name: str, value: str, norm: Any) -> str:
        scale, shift = self._weight(f"{name}.scale", norm.weight), self._weight(f"{name}.shift", norm.bias)
        return self._node("LayerNormalization", [value, scale, shift], name, epsilon=norm.eps)

    def _add_norm(self, name: str, value: str, skip: str, norm: Any, bias: Tensor) -> str:
        weights = [self._weight(f"{name}.{key}", w) for key, w in (("scale", norm.weight), ("shift", norm.bias))]
        weights.append(self._weight(f"{name}.bias", bias))
        return self._node("SkipLayerNormalization", [value, skip, *weights], name, MICROSOFT, epsilon=norm.eps)

    def _activated(self, name: str, value: str, linear: Any, activation: str) -> str:
        domain, kind, attributes = ACTIVATIONS[activation]
        bias = self._weight(f"{name}.bias", linear.bias)
        if kind in ("BiasGelu", "FastGelu"):  # which add the bias themselves
            return self._node(kind, [value, bias], name, domain)
        biased = self._node("Add", [value, bias], f"{name}.biased")
        return self._node(kind, [biased], name, domain, **attributes)
