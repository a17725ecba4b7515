"""When a sample leaves: exit policies, one protocol, vectorised over the batch.

A policy turns the output of an exit into a score (lower is more confident) and lets a sample leave when its score is
below the threshold. The same object drives the sweep over recorded scores and the live engines, so both name the same
exit. The last exit always leaves; that is done by the callers, not by the policy.

    base           the protocol; a policy's name in files
    confidence     entropy, largest probability, margin: one exit's probabilities
    distance       DE3-BERT's distance ratio and its hybrid with entropy
    consecutive    several exits in a row: patience, PCEE, F-PABEE, the change of an estimate
    voting         the share of the exits so far that agree
    learned        BERxiT's learning-to-exit head
    fixed          one exit for all
    scaled         any of them on probabilities with a temperature
    stacked        several indicators weighed by a logistic model an exit
"""

from __future__ import annotations

from mebert.policies.base import ExitPolicy, policy_by_name, policy_from_spec
from mebert.policies.confidence import Entropy, Margin, MaxProbability
from mebert.policies.consecutive import ConsecutiveExits, Patience, PatientDivergence, PatientEntropy, ValueChange
from mebert.policies.distance import DistanceRatio, HybridDistanceEntropy
from mebert.policies.fixed import FixedExit
from mebert.policies.learned import LearnedToExit
from mebert.policies.scaled import TemperatureScaled
from mebert.policies.stacked import Stacked
from mebert.policies.uncertainty import distance_ratio, hybrid_indicator, normalised_entropy
from mebert.policies.voting import Voting

__all__ = [
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
