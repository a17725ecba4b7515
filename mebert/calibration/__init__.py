"""Operating points from one pass over a split: for a speed-up, a budget, a largest drop, or with a guarantee."""

from mebert.calibration.choose import (
    Guarantee,
    guaranteed_threshold,
    threshold_for_cost,
    threshold_for_drop,
    threshold_grid,
)
from mebert.calibration.costs import ExitCosts, PolicyCosts
from mebert.calibration.risks import RISKS, AccuracyDifference, Disagreement, NewMistakes, Risk

__all__ = [
    "RISKS",
    "AccuracyDifference",
    "Disagreement",
    "ExitCosts",
    "Guarantee",
    "NewMistakes",
    "PolicyCosts",
    "Risk",
    "guaranteed_threshold",
    "threshold_for_cost",
    "threshold_for_drop",
    "threshold_grid",
]
