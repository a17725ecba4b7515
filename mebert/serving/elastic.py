"""Which operating point a server answers with under load: a controller without threads and without a clock.

All times are seconds of one clock that never goes back, given by the caller.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from mebert.errors import UserError, check_range

HIGH, LOW = 0.9, 0.45  # shares of the target: above the first one point up, below the second one point down
LATE_SHARE = 0.01  # of the requests of a window: at most these are above its 99th percentile
FEW = 2  # late or waiting requests that never move the point to a faster one
FEWEST = 5  # answers from which on a percentile is computed
FIRST_HOLD, LONGEST_HOLD = 4.0, 60.0  # seconds until a point that was too slow is tried again


@dataclass(frozen=True)
class CalibratedPoint:
    """A calibrated operating point.

    Attributes:
        speedup: By layers, at least 1.
        drop: Expected loss of the metric against the full depth; below 0 where it gains.
        place: Its place among all points of a server.
    """

    speedup: float
    drop: float
    place: int = 0


def allowed_points(points: Sequence[CalibratedPoint], max_drop: float) -> list[CalibratedPoint]:
    """The points that lose at most `max_drop`, the slowest first, without those that a faster one equals or betters.

    The slowest always stays: it is what is served while there is time.
    """
    allowed = sorted((one for one in points if one.drop <= max_drop), key=lambda one: (one.speedup, -one.drop))
    worth = [one for i, one in enumerate(allowed) if all(one.drop < faster.drop for faster in allowed[i + 1 :])]
    return [*allowed[:1], *(one for one in worth if one.speedup > allowed[0].speedup)]


class SlidingWindow:
    """Finished requests of the last seconds, and how many of them took longer than each of two limits."""

    def __init__(self, seconds: float, limits: tuple[float, float]) -> None:
        self.seconds, self.limits = seconds, limits
        self._finished: deque[tuple[float, float]] = deque()
        self.above = [0, 0]

    def __len__(self) -> int:
        return len(self._finished)

    def add(self, now: float, latency: float) -> None:
        self._finished.append((now, latency))
        self._count(latency, 1)

    def forget(self, before: float) -> None:
        while self._finished and self._finished[0][0] < before:
            self._count(self._finished.popleft()[1], -1)

    def p99_above(self, which: int) -> bool:
        """Whether the 99th percentile is above a limit, by more than a few requests; no, of fewer than `FEWEST`."""
        return len(self) >= FEWEST and self.above[which] > max(FEW, LATE_SHARE * len(self))

    def p99(self) -> float:
        """The 99th percentile in seconds; NaN without requests."""
        ordered = sorted(latency for _, latency in self._finished)
        return ordered[min(len(ordered) - 1, math.floor(0.99 * len(ordered)))] if ordered else math.nan

    def _count(self, latency: float, by: int) -> None:
        for which, limit in enumerate(self.limits):
            self.above[which] += by * (latency > limit)


@dataclass
class _Failure:
    """A point that was too slow: when it was left, for how long it is not tried, and how many arrived in a window."""

    at: float
    hold: float
    arrivals: int


class ElasticController:
    """Chooses the operating point of requests that did not ask for a speed.

    Up (faster) as soon as the 99th percentile of the latencies in the window is above 0.9 of the target, or the latency
    that the queue foretells above the target; no sooner than a target's time after the last change, so that a change
    can show. One or two requests never move it up, late or waiting, nor does a percentile of fewer than five answers:
    on an idle server a single slow one says nothing of the load. Down (slower) where both stayed below 0.45 of the
    target for a whole window. A point that was left because it was too slow is tried again when clearly fewer requests
    arrive than then (by four standard deviations of their number), else after 4 seconds, and after three times as long
    each time it fails again, at most a minute: under a constant load the changes become rare. Where nothing waits and
    nothing came for a whole window, the slowest at once.

    Args:
        points: Those that may be used, from the slowest to the fastest (`allowed_points`).
        target: Wanted 99th percentile of the latencies.
        window: Over which latencies and arrivals are counted.

    Raises:
        UserError: A target or a window that is not above 0.
    """

    def __init__(self, points: Sequence[CalibratedPoint], target: float, window: float = 2.0) -> None:
        check_range("target_p99_ms", 1000 * target, 0.0, low_open=True)
        if not points:
            raise UserError("points is empty: a server needs one operating point at least")
        self.points, self.target = tuple(points), target
        self.index = 0
        self.changes = 0
        self.window = SlidingWindow(window, (HIGH * target, LOW * target))
        self._arrived: deque[float] = deque()
        self._failures: dict[int, _Failure] = {}
        self._changed = -math.inf
        self._since = math.nan  # of the last update
        self._waiting = 0
        self._busy = self._served = 0.0  # decaying: seconds with work, and requests finished in them

    @property
    def point(self) -> CalibratedPoint:
        """The current one."""
        return self.points[self.index]

    def arrived(self, now: float) -> None:
        """A request came in, refused or not."""
        self._arrived.append(now)

    def finished(self, now: float, latency: float) -> None:
        """A request was answered, `latency` seconds after it came."""
        self.window.add(now, latency)
        self._served += 1

    def update(self, now: float, waiting: int, oldest: float) -> int:
        """Look at the queue, move the point where that is due, and return its index.

        Args:
            now: The time.
            waiting: Requests that are not answered yet.
            oldest: Seconds since the oldest of them came; 0 without any.
        """
        self._measure_rate(now, waiting)
        start = now - self.window.seconds
        self.window.forget(max(start, self._changed))
        while self._arrived and self._arrived[0] < start:
            self._arrived.popleft()
        foretold = max(oldest, self._foretold_wait(waiting))
        if self.window.p99_above(0) or (waiting > FEW and foretold > self.target):
            if self.index + 1 < len(self.points) and now - self._changed >= self.target:
                self._fail(now)
                self._move(now, self.index + 1)
        elif self.index and now - self._changed >= self.window.seconds:
            if not waiting and not self._arrived:
                self._move(now, 0)
            elif not self.window.p99_above(1) and foretold <= LOW * self.target and self._may_slow(now):
                self._move(now, self.index - 1)
        return self.index

    def _measure_rate(self, now: float, waiting: int) -> None:
        passed = 0.0 if math.isnan(self._since) else max(0.0, now - self._since)
        kept = math.exp(-passed / self.window.seconds)
        self._busy = self._busy * kept + (passed if self._waiting else 0.0)
        self._served *= kept
        self._since, self._waiting = now, waiting

    def _foretold_wait(self, waiting: int) -> float:
        """Seconds in which the requests that wait are answered, at the rate of the seconds with work."""
        return waiting * self._busy / self._served if self._served >= 1.0 else 0.0

    def _may_slow(self, now: float) -> bool:
        """Whether the next slower point is worth a try: it did not fail, or that is long ago, or fewer come now."""
        failure = self._failures.get(self.index - 1)
        arrivals = len(self._arrived)
        return failure is None or now - failure.at >= failure.hold or _clearly_fewer(arrivals, failure.arrivals)

    def _fail(self, now: float) -> None:
        """Remember that the current point was too slow; three times as long as last time unless it held since."""
        last = self._failures.get(self.index)
        again = last is not None and now - self._changed < last.hold
        hold = min(LONGEST_HOLD, 3 * last.hold) if again and last is not None else FIRST_HOLD
        self._failures[self.index] = _Failure(now, hold, len(self._arrived))

    def _move(self, now: float, index: int) -> None:
        faster = self.points[index].speedup / self.point.speedup
        self._served *= faster  # a first guess of the new rate
        self.index, self._changed = index, now
        self.changes += 1


def _clearly_fewer(arrivals: int, than: int) -> bool:
    return arrivals + 4 * math.sqrt(max(1, arrivals)) < than
