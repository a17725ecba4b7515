"""The hook of `python -m mebert serve --target_p99_ms`: the controller over the points of a served model."""

from __future__ import annotations

from collections.abc import Sequence

from mebert.errors import UserError
from mebert.serving.elastic import CalibratedPoint, ElasticController, allowed_points
from mebert.serving.model_info import ServedPoint
from mebert.storage.operating_point import check_max_drop
from mebert.storage.spec_parts import drop_text

ELASTIC_MAX_DROP = 0.02
"""An elastic server may lose this much of the metric while there is no time for more, unless set."""


class ElasticControl(ElasticController):
    """The controller over the full depth and a model's stored points; it gives places among those of a server.

    Args:
        points: Those of `/info`.
        target_p99_ms: Wanted 99th percentile of the latencies, in milliseconds.
        max_drop: Largest expected drop of the metric, of any point that is served.
        model: Its name, for messages.

    Raises:
        UserError: No faster point is stored that loses so little; the text has the command that stores some.
    """

    def __init__(
        self,
        points: Sequence[ServedPoint],
        target_p99_ms: float,
        max_drop: float = ELASTIC_MAX_DROP,
        model: str = "RUN",
    ) -> None:
        check_max_drop("max_drop", max_drop)
        calibrated = [found for place, point in enumerate(points) if (found := _calibrated(point, place)) is not None]
        faster = [one for one in calibrated if one.speedup > 1]
        allowed = allowed_points(calibrated, max_drop)
        if len(allowed) < 2:
            raise UserError(_nothing_faster(model, max_drop, faster))
        super().__init__(allowed, target_p99_ms / 1000)

    def update(self, now: float, waiting: int, oldest: float) -> int:
        """As in `ElasticController`; returns the place of the point among those of the server."""
        super().update(now, waiting, oldest)
        return self.point.place

    def describe(self) -> str:
        """The range of its points, for a line on the screen."""
        first, last = self.points[0], self.points[-1]
        start = "full depth" if first.speedup == 1 else f"{first.speedup:.2f}x"
        return f"{start} to {last.speedup:.2f}x by layers (expected {drop_text(last.drop)}), {len(self.points)} points"


def _calibrated(point: ServedPoint, place: int) -> CalibratedPoint | None:
    """The point with what it costs; None where that is not known."""
    if point.threshold == 0.0:
        return CalibratedPoint(1.0, 0.0, place)
    if point.expected is None or point.expected.drop is None:
        return None
    return CalibratedPoint(point.expected.speedup, point.expected.drop, place)


def _nothing_faster(model: str, max_drop: float, faster: Sequence[CalibratedPoint]) -> str:
    if not faster:
        return (
            f"target_p99_ms: no operating point with a known drop is stored with {model}; store some with "
            f"python -m mebert calibrate {model} --speedup [1.5,2,3,4]"
        )
    least = min(faster, key=lambda one: one.drop)
    return (
        f"max_drop {max_drop:g}: every operating point stored with {model} loses more (the least: {least.drop:.4f} at "
        f"{least.speedup:.2f}x); allow more, or store another with python -m mebert calibrate {model} "
        f"--max_drop {max_drop:g}"
    )
