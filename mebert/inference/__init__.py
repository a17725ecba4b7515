"""Engines: how a policy's decisions are carried out on batches, and what makes the layers fast.

    run_full, run_shrink        one batch, one answer
    FullEngine, ShrinkEngine    the same behind the protocol that fits streams: `feed` and `flush`
    RefillEngine                survivors wait until a full batch can go on
    PredictedEngine             the exit is predicted beforehand, and no exit is tested
    run_engine                  an engine over many batches, answers in the order of the rows
    plan_batches                which rows go together
    prepare_model               a copy of a model for inference: precision, fused layers, compiled layers

All take the exits that the policy names (`predicted`: the exits that the predictor names), to floating-point
tolerance, whatever the batches. Shapes: B batch, C classes, S tokens, H hidden.
"""

from __future__ import annotations

from mebert.inference.batching import BatchPlan, plan_batches
from mebert.inference.engine import Engine, EngineName, ExitDecisions, Finished, run_engine
from mebert.inference.predicted import PredictedEngine
from mebert.inference.prepare import PrecisionName, make_engine, prepare_model, prepare_policy
from mebert.inference.refill import RefillEngine
from mebert.inference.whole_batch import ENGINES, FullEngine, ShrinkEngine, run_full, run_shrink

__all__ = [
    "ENGINES",
    "BatchPlan",
    "Engine",
    "EngineName",
    "ExitDecisions",
    "Finished",
    "FullEngine",
    "PrecisionName",
    "PredictedEngine",
    "RefillEngine",
    "ShrinkEngine",
    "make_engine",
    "plan_batches",
    "prepare_model",
    "prepare_policy",
    "run_engine",
    "run_full",
    "run_shrink",
]
