"""The pretrained pooler of an encoder as the start of its exits; ElasticBERT's weights have one a layer.

Sources: `BertPooler` of transformers, Linear and tanh on [CLS]; DeeBERT's `init_highway_pooler`, which copies it into
every exit; fastnlp/ElasticBERT, `ElasticBertEncoder.pooler`. Shapes: H hidden.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from mebert.errors import UserError
from mebert.models.weights import POOLER, weight_files
from mebert.storage.finite import check_finite
from mebert.storage.hub import hub_errors

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel


def stored_poolers(name: str) -> dict[int | None, dict[str, Tensor]]:
    """The poolers in the weights of a folder or Hub id: layer from 0 (None: only one) to `weight` and `bias`."""
    found: dict[int | None, dict[str, Tensor]] = {}

    def keep(key: str, value: Tensor) -> None:
        place = re.search(POOLER, key)
        assert place is not None
        layer = None if place["layer"] is None else int(place["layer"])
        found.setdefault(layer, {})[place["part"]] = value.float()

    with hub_errors(f"encoder {name!r}"):
        for path in weight_files(name):
            if path.endswith(".safetensors"):
                with safe_open(path, framework="pt") as weights:
                    for key in filter(POOLER.search, weights.keys()):
                        keep(key, weights.get_tensor(key))
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
                for key in filter(POOLER.search, state):
                    keep(key, state[key])
    check_finite(f"encoder {name!r}", {f"pooler {n}.{part}": v for n, p in found.items() for part, v in p.items()})
    return {layer: pooler for layer, pooler in found.items() if pooler.keys() == {"weight", "bias"}}


def start_from_pooler(model: MultiExitModel, name: str | None, wanted: bool | None) -> bool:
    """Set the first Linear of every exit to the encoder's pretrained pooler, or to that of the exit's own layer.

    Args:
        model: Its exits are changed in place; of a Linear that they share the deepest layer's pooler remains.
        name: Hub id or folder of the weights; None: they are random.
        wanted: None where it can be done, True: it must, False: not at all.

    Returns:
        Whether the exits start from it.

    Raises:
        UserError: It is wanted, and there is none, or the exits have no place for it.
    """
    if wanted is False:
        return False
    family, size = model.adapter.config.model_type, model.hidden_size
    linears: list[Any] = [model.exit(index).classifier[0] for index in range(model.num_exits)]
    fault = None
    poolers: list[dict[str, Tensor] | None] = []
    if name is None:
        fault = "encoder_config builds an encoder with random weights"
    elif model.pooling != "cls":
        fault = f"pooling is {model.pooling}, and a pooler reads [CLS]: take pooling cls"
    elif not all(isinstance(linear, nn.Linear) for linear in linears):
        fault = f"head is {model.head}, which has no layer for it: take mlp or shared"
    elif "add_pooling_layer" not in model.adapter.init_kwargs:
        fault = f"encoders of the family {family} have no pooler"
    else:
        there = stored_poolers(name)
        poolers = [there.get(depth - 1, there.get(None)) for depth in model.exit_layers]
        if None in poolers:
            fault = f"the weights of encoder {name!r} have no pooler"
        elif any(p["weight"].shape != (size, size) or p["bias"].shape != (size,) for p in poolers if p is not None):
            fault = f"the pooler of encoder {name!r} is not of its width, {size}"
    if fault is not None:
        if wanted:
            raise UserError(f"pretrained_pooler is true, but {fault}; leave pretrained_pooler null to start at random")
        return False
    for linear, pooler in zip(linears, poolers, strict=True):
        linear.load_state_dict(pooler)
    return True
