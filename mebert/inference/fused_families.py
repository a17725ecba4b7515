"""Which fused layers an encoder gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from mebert.inference.fused import fused_bert
from mebert.inference.fused_deberta import fused_deberta
from mebert.inference.fused_pre_norm import fused_eurobert, fused_modernbert
from mebert.models.deberta import DebertaAdapter
from mebert.models.encoder import EncoderAdapter
from mebert.models.pre_norm import EuroBertAdapter, ModernBertAdapter

OWN_LAYERS: dict[type[EncoderAdapter], Callable[[Any], Sequence[Sequence[nn.Module]]]] = {
    DebertaAdapter: fused_deberta,
    ModernBertAdapter: fused_modernbert,
    EuroBertAdapter: fused_eurobert,
}


def fused_layers(adapter: EncoderAdapter) -> Sequence[Sequence[nn.Module]] | None:
    """The layers of an encoder, fused; None for a family whose parts are not known, or that runs them otherwise."""
    for family, make in OWN_LAYERS.items():
        if isinstance(adapter, family) and type(adapter).layer is family.layer:
            return make(adapter.encoder)
    return fused_bert(adapter)
