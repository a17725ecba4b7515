"""Lightning modules: one published training recipe a file, over the shared multi-exit model."""

from mebert.modules.base import MultiExitModule
from mebert.modules.berxit import BERxiTModule
from mebert.modules.curriculum_distill import CurriculumDistillModule
from mebert.modules.deebert import DeeBERTModule
from mebert.modules.elasticbert import ElasticBERTModule
from mebert.modules.fastbert import FastBERTModule
from mebert.modules.geep import GEEPModule
from mebert.modules.gpfee import GPFEEModule
from mebert.modules.learned_weights import LearnedWeightsModule
from mebert.modules.pabee import PABEEModule
from mebert.modules.proto_exit import ProtoExitModule
from mebert.modules.romebert import RomeBERTModule
from mebert.modules.self_distill import SelfDistillModule

__all__ = [
    "BERxiTModule",
    "CurriculumDistillModule",
    "DeeBERTModule",
    "ElasticBERTModule",
    "FastBERTModule",
    "GEEPModule",
    "GPFEEModule",
    "LearnedWeightsModule",
    "MultiExitModule",
    "PABEEModule",
    "ProtoExitModule",
    "RomeBERTModule",
    "SelfDistillModule",
]
