"""A tiny training of every recipe, and of what else keeps a state: curricula, exit predictors."""

from __future__ import annotations

from typing import Any

from runs import experiment

from mebert import modules

__all__ = ["EPOCH", "INTERVAL", "RECIPES", "settings_of"]

EPOCH = 7  # batches: 52 rows in batches of 8, the last one of 4
INTERVAL = 3  # optimiser steps between two checkpoints
KNOWN = {"class_path": "mebert.curriculum.KnownDifficulty"}
LOSS = {"class_path": "mebert.curriculum.Loss"}
PACING = {"class_path": "mebert.curriculum.RootCompetence", "init_args": {"until": 0.8, "start": 0.2}}
REVIEW = {"class_path": "mebert.curriculum.CrossReview", "init_args": {"teachers": 2}}

# The module, the settings of the data, those of the sections.
RECIPES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{name: (name, {}, {}) for name in modules.__all__},
    "exit prediction": ("GEEPModule", {}, {"exit_prediction": {"kind": "token"}}),
    "scores of training": ("MultiExitModule", {"difficulty": LOSS, "pacing": PACING, "smoothing": 0.5}, {}),
    "scores by inference": (
        "ProtoExitModule",
        {"difficulty": LOSS, "initial": KNOWN, "scores_from": "inference"},
        {},
    ),
    "cross-review": ("CurriculumDistillModule", {"difficulty": REVIEW, "pacing": PACING}, {}),
}


def settings_of(recipe: str, epochs: int = 2) -> dict[str, Any]:
    """The configuration of a recipe, with everything that draws: dropout, order, new weights."""
    module, data, sections = RECIPES[recipe]
    settings = experiment(module, dropout=0.1)
    settings["trainer"] |= {"max_epochs": epochs, "callbacks": [{"class_path": "resume.plug.Plug"}]}
    if data:
        settings["data"]["class_path"] = "mebert.SyntheticCurriculumDataModule"
    settings["data"]["init_args"] |= {"train_samples": 52, "eval_samples": 24, "batch_size": 8, **data}
    settings["curve"] = {"wall_samples": 0, "points": [1.2, 1.5]}
    settings["last_checkpoint"] = {"every_n_train_steps": INTERVAL, "keep": True}
    settings["test_after_fit"] = False
    return settings | sections
