"""Lightning modules: one published training recipe a file, over the shared multi-exit model."""

from mebert.modules.base import MultiExitModule
from mebert.modules.curriculum_distill import CurriculumDistillModule
from mebert.modules.fastbert import FastBERTModule
from mebert.modules.geep import GEEPModule
from mebert.modules.proto_exit import ProtoExitModule

__all__ = ["CurriculumDistillModule", "FastBERTModule", "GEEPModule", "MultiExitModule", "ProtoExitModule"]
