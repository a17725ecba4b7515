"""Plain PyTorch models: the shared multi-exit encoder, its exit heads and its prototypes."""

from mebert.models.cascade import CascadeModel
from mebert.models.encoder import EncoderAdapter
from mebert.models.families import SUPPORTED_FAMILIES, adapter_for, build_encoder
from mebert.models.fitted_prototypes import fit_prototypes
from mebert.models.heads import ExitHead, make_pooling
from mebert.models.layer_state import LayerState
from mebert.models.multi_exit import ExitOutputs, MultiExitModel, model_inputs
from mebert.models.past_future import PastFutureModel
from mebert.models.prototypes import PrototypeBank
from mebert.storage.aliases import moved_names

__all__ = [
    "SUPPORTED_FAMILIES",
    "CascadeModel",
    "EncoderAdapter",
    "ExitHead",
    "ExitOutputs",
    "LayerState",
    "MultiExitModel",
    "PastFutureModel",
    "PrototypeBank",
    "adapter_for",
    "build_encoder",
    "fit_prototypes",
    "make_pooling",
    "model_inputs",
]

__getattr__ = moved_names(__name__)
