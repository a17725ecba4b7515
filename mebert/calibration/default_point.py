"""The default operating point: the fastest whose drop on validation data is small; and what is expected of any point.

Shapes: E exits, N samples of a recorded pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mebert.calibration.choose import threshold_for_drop
from mebert.metrics.bootstrap import speedup_interval
from mebert.metrics.curve import ExitRecord, replay, speedup_layers
from mebert.metrics.task import metric_value
from mebert.policies import ExitPolicy, FixedExit
from mebert.storage.spec_parts import Expected


def default_threshold(record: ExitRecord, scores: Tensor, metric: str, max_drop: float) -> float:
    """The fastest threshold whose drop of the metric, against the last exit, is at most `max_drop`; 0: full depth.

    `scores` are the policy's, (E, N). Where the metric of the last exit is undefined (NaN), no drop is known: 0.
    """

    def metric_at(exits: Tensor) -> float:
        return metric_value(metric, record.logits_at(exits), record.labels, record.queries)

    return threshold_for_drop(scores, metric_at, max_drop)


def expected_at(
    record: ExitRecord, policy: ExitPolicy, exit_layers: Sequence[int], metric: str, data: str = "validation data"
) -> Expected | None:
    """What a recorded pass lets one expect of a policy at its threshold; None if its scores were not recorded."""
    if isinstance(policy, FixedExit):
        exits = torch.full_like(record.index, policy.exit - 1 if policy.threshold else record.num_exits - 1)
    elif policy.name in record.scores:
        exits = replay(record.scores[policy.name], policy.threshold)
    else:
        return None
    logits = record.answered_by(policy.name).logits_at(exits), record.logits[-1]
    value, full = (metric_value(metric, one, record.labels, record.queries) for one in logits)
    ends = speedup_interval(exits, exit_layers, record.queries)
    return Expected(
        threshold=policy.threshold,
        metric=metric,
        value=None if math.isnan(value) else value,
        drop=None if math.isnan(full - value) else full - value,
        speedup=speedup_layers(exits, exit_layers),
        speedup_interval=None if ends is None else [ends.low, ends.high],
        samples=len(record.labels),
        data=data,
    )
