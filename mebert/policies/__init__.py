"""When a sample leaves: exit policies, one protocol, vectorised over the batch.

A policy turns the output of an exit into a score (lower is more confident) and lets a sample leave when its score is
below the threshold. The same object drives the sweep over recorded scores and the live engines, so both name the same
exit. The last exit always leaves; that is done by the callers, not by the policy.
"""

from __future__ import annotations

from mebert.policies.base import ExitPolicy, policy_by_name, policy_from_spec
from mebert.policies.confidence import Entropy, Margin, MaxProbability
from mebert.policies.consecutive import (
    FPABEE,
    ConsecutiveExits,
    Patience,
    PatientDivergence,
    PatientEntropy,
    ValueChange,
)
from mebert.policies.distance import DistanceRatio, HybridDistanceEntropy
from mebert.policies.fixed import FixedExit
from mebert.policies.learned import LearnedToExit
from mebert.policies.scaled import TemperatureScaled
from mebert.policies.stacked import Stacked
from mebert.policies.uncertainty import distance_ratio, hybrid_indicator, normalised_entropy
from mebert.policies.voting import Voting

__all__ = [
    "FPABEE",
    "ConsecutiveExits",
    "DistanceRatio",
    "Entropy",
    "ExitPolicy",
    "FixedExit",
    "HybridDistanceEntropy",
    "LearnedToExit",
    "Margin",
    "MaxProbability",
    "Patience",
    "PatientDivergence",
    "PatientEntropy",
    "Stacked",
    "TemperatureScaled",
    "ValueChange",
    "Voting",
    "distance_ratio",
    "hybrid_indicator",
    "normalised_entropy",
    "policy_by_name",
    "policy_from_spec",
]
