"""Plain PyTorch models: the shared multi-exit encoder, its exit heads and its prototypes."""

from mebert.models.cascade import CascadeModel
from mebert.models.encoder import EncoderWalk, LayerState
from mebert.models.families import SUPPORTED_FAMILIES, build_encoder, walk_for
from mebert.models.fitted_prototypes import fit_prototypes
from mebert.models.heads import ExitHead, make_pooling
from mebert.models.multi_exit import ExitOutputs, MultiExitModel, model_inputs
from mebert.models.past_future import PastFutureModel
from mebert.models.pretrained import load_policy
from mebert.models.prototypes import PrototypeBank

__all__ = [
    "SUPPORTED_FAMILIES",
    "CascadeModel",
    "EncoderWalk",
    "ExitHead",
    "ExitOutputs",
    "LayerState",
    "MultiExitModel",
    "PastFutureModel",
    "PrototypeBank",
    "build_encoder",
    "fit_prototypes",
    "load_policy",
    "make_pooling",
    "model_inputs",
    "walk_for",
]
