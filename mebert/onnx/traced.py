"""PyTorch modules as ONNX graphs, by PyTorch's own exporter: the embeddings, and an exit with the policy's score.

Shapes: B texts, n windows of them (B where texts are not read in windows), S tokens, H hidden, C classes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnxscript import opset18 as op
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mebert.errors import UserError
from mebert.models.encoder import EncoderAdapter
from mebert.models.layer_state import LayerState
from mebert.models.multi_exit import MultiExitModel
from mebert.policies.base import ExitPolicy
from mebert.policies.uncertainty import of_rows

OPSET = 18


def _entropy_terms(probabilities: Any) -> Any:
    """-p log p, which is 0 at 0, in three operators; PyTorch's own decomposition has ten, for numbers below 0."""
    smallest = op.Constant(value_float=float(torch.finfo(torch.float32).tiny))
    return op.Mul(probabilities, op.Neg(op.Log(op.Max(probabilities, smallest))))


OWN_OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.special_entr.default: _entropy_terms}


@dataclass(frozen=True)
class Structure:
    """How tensors are nested in tuples, with None here and there: `pytree` takes None for a value."""

    spec: Any
    there: tuple[bool, ...]

    @classmethod
    def of(cls, nested: Any) -> tuple[list[Tensor], Structure]:
        """The tensors of something nested, and its structure."""
        leaves, spec = pytree.tree_flatten(nested)
        found = [leaf for leaf in leaves if leaf is not None]
        return found, cls(spec, tuple(leaf is not None for leaf in leaves))

    def restored(self, tensors: Sequence[Tensor]) -> Any:
        """Tensors, nested again."""
        rest = iter(tensors)
        return pytree.tree_unflatten([next(rest) if there else None for there in self.there], self.spec)


class Embeddings(nn.Module):
    """Token ids (B, S) and, of an encoder that reads them, segment ids to hidden states and the attention bias."""

    def __init__(self, model: MultiExitModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> list[Tensor]:
        """Hidden states (B, S, H) and, where the family has one, what is added to attention scores, (1, A, S, S)."""
        adapter = self.model.adapter
        bias = adapter.attention_bias(input_ids.shape[1])
        if type(adapter).start is EncoderAdapter.start:
            hidden = adapter.embed(input_ids, token_type_ids)
        else:  # DeBERTa's first hidden states know the padding
            hidden = adapter.start(input_ids, attention_mask, token_type_ids).hidden
        return [hidden] if bias is None else [hidden, bias.detach()]


class ExitStep(nn.Module):
    """One exit: its logits, the policy's score, and what the policy and the model remember for the next exit.

    Args:
        model: In evaluation mode.
        policy: Bound to the model, at a threshold at which samples may leave.
        index: The exit, 0-based.
        depth: Layers that have run before: the exit's own; or those of the exit before, and the others are run here.
    """

    def __init__(self, model: MultiExitModel, policy: ExitPolicy, index: int, depth: int) -> None:
        super().__init__()
        self.model, self.policy, self.index, self.depth = model, policy, index, depth
        self.structure: Structure | None = None  # of what the exit before has left
        self.left: Structure | None = None  # of what this one leaves, once it has run

    def forward(
        self, hidden: Tensor, attention_mask: Tensor, carried: list[Tensor], average: Tensor | None = None
    ) -> list[Tensor]:
        """Hidden states (n, S, H), the mask (n, S) and what the exit before has left to those, logits (B, C), scores...

        `average` (B, n) gives the mean of a text's windows, for a model that reads texts in windows; else n is B.
        """
        memory, state = (None, None) if self.structure is None else self.structure.restored(carried)
        if self.index == 0:
            tokens = attention_mask if average is None else (average > 0).float() @ attention_mask.float()
            state = self.policy.start(tokens)  # with windows each row counts a text's tokens
        adapter, own = self.model.adapter, self.depth == self.model.exit_layers[self.index]
        mask = None if own else adapter.layer_mask(hidden, attention_mask)
        before = LayerState(hidden, attention_mask, mask, self.depth, memory)
        after, logits, feature = self.model.step(before, self.index)
        if average is not None:
            logits, feature = torch.tensordot(average, logits, dims=1), average @ feature
        score, state = self.policy.observe(self.index, logits, feature, state)
        if self.index + 1 < self.model.num_exits:
            logits = self.policy.answer(self.index, logits, state)
        left, self.left = Structure.of((after.memory, state))
        temperatures = self.model.exit_temperatures
        if temperatures:
            logits = logits / temperatures[self.index]
        parts = [logits, of_rows(score).float(), *(part.clone() for part in left)]  # a graph's output is not its input
        return [after.hidden.clone() if own else after.hidden, *parts]


def traced(
    module: nn.Module, args: tuple[Any, ...], inputs: Sequence[str], outputs: Sequence[str], sizes: Any
) -> onnx.ModelProto:
    """The graph of a module in evaluation mode.

    Args:
        module: What is traced.
        args: Of its `forward`, as an example.
        inputs: Names of the graph's inputs, in the order of the tensors in `args`.
        outputs: Names of its outputs.
        sizes: `dynamic_shapes` of `torch.export`.

    Raises:
        UserError: Something in the module has no form in ONNX; the message is PyTorch's.
    """
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), open(os.devnull, "w", encoding="utf-8") as nowhere:
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nowhere), torch.no_grad():
                program: Any = torch.onnx.export(
                    module.eval(),
                    args,
                    input_names=list(inputs),
                    output_names=list(outputs),
                    opset_version=OPSET,
                    dynamic_shapes=sizes,
                    dynamo=True,
                    verbose=False,
                    custom_translation_table=OWN_OPERATORS,
                )
    except torch.onnx.OnnxExporterError as error:
        what = type(getattr(module, "policy", module)).__name__
        raise UserError(f"export: {what} has no form in ONNX: {' '.join(str(error).split())[:300]}") from error
    finally:
        logger.setLevel(before)
    found: onnx.ModelProto = program.model_proto
    _forget_places(found.graph)
    for function in found.functions:
        _forget_places(function)
    return found


def _forget_places(graph: Any) -> None:
    """Remove from nodes where in the code, by paths of this machine, they come from."""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _forget_places(inner)
