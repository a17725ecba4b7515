"""Curriculum learning: the difficulty of samples, which of them are in use when, and data modules that order them."""

from mebert.curriculum.cross_review import CrossReview
from mebert.curriculum.datamodule import CurriculumDataModule, SyntheticCurriculumDataModule
from mebert.curriculum.measures import (
    DataMeasure,
    DifficultyMeasure,
    ExitDepth,
    ExitErrorRate,
    KnownDifficulty,
    Length,
    Loss,
    Margin,
    ModelMeasure,
    WordRarity,
)
from mebert.curriculum.pacing import Annealing, BabySteps, LinearCompetence, OnePass, Pacing, RootCompetence
from mebert.storage.aliases import moved_names

__all__ = [
    "Annealing",
    "BabySteps",
    "CrossReview",
    "CurriculumDataModule",
    "DataMeasure",
    "DifficultyMeasure",
    "ExitDepth",
    "ExitErrorRate",
    "KnownDifficulty",
    "Length",
    "LinearCompetence",
    "Loss",
    "Margin",
    "ModelMeasure",
    "OnePass",
    "Pacing",
    "RootCompetence",
    "SyntheticCurriculumDataModule",
    "WordRarity",
]

__getattr__ = moved_names(__name__)
