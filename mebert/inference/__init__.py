"""Engines: how a policy's decisions are carried out on batches, and what makes the layers fast.

    run_full, run_shrink        one batch
    FullEngine, ShrinkEngine    the same behind the interface for streams: `feed` and `flush`
    RefillEngine                survivors wait until a full batch can go on
    PredictedEngine             the exit is predicted beforehand, and no exit is tested
    make_engine, run_engine     an engine by its name; an engine over many batches, results in the order of the rows
    plan_batches                which rows go together
    prepare_model               a copy of a model for inference: precision, fused layers, compiled layers

All engines take the exits that the policy names (`predicted`: the exits that the predictor names), to floating-point
tolerance, whatever the batches; in bfloat16 and int8 that is wide enough for a few exits to differ.
Shapes: B batch, C classes, S tokens, H hidden.
"""

from __future__ import annotations

from mebert.choices import EngineName, PrecisionName
from mebert.inference.batching import BatchPlan, plan_batches
from mebert.inference.engine import Engine, ExitDecisions, Finished, run_engine
from mebert.inference.factory import make_engine
from mebert.inference.predicted import PredictedEngine
from mebert.inference.prepare import prepare_model, prepare_policy
from mebert.inference.refill import RefillEngine
from mebert.inference.whole_batch import FullEngine, ShrinkEngine, run_full, run_shrink

__all__ = [
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
