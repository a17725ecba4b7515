"""A batching server on a simulated clock, whose service time depends on the operating point."""

import itertools
import random
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Server:
    """One worker takes what waits, at most `batch` requests, for `fixed + n * (each + full / speed-up)` seconds."""

    batch: int = 16
    bound: int = 64
    fixed: float = 0.001
    each: float = 0.0005
    full: float = 0.004

    def seconds(self, requests, speedup):
        return self.fixed + requests * (self.each + self.full / speedup)

    @property
    def capacity(self):
        """Requests a second at full depth."""
        return self.batch / self.seconds(self.batch, 1)


@dataclass
class Course:
    """What happened: (time, latency, point) of each answer, (time, point) of each change, refusals."""

    answers: list = field(default_factory=list)
    changes: list = field(default_factory=list)
    refused: list = field(default_factory=list)

    def p99(self, start=0.0, stop=float("inf")):
        found = sorted(latency for time, latency, _ in self.answers if start <= time < stop)
        return found[int(0.99 * len(found))]

    def at(self, time):
        return next((point for when, point in reversed(self.changes) if when <= time), 0)

    def share_late(self, target, start=0.0):
        found = [latency > target for time, latency, _ in self.answers if time >= start]
        lost = sum(time >= start for time in self.refused)
        return (sum(found) + lost) / (len(found) + lost)


def poisson(rates, seed):
    """Arrival times of one rate after another: (seconds, requests a second)."""
    draw, start = random.Random(seed), 0.0
    for seconds, rate in rates:
        now = start
        while rate and (now := now + draw.expovariate(rate)) < start + seconds:
            yield now
        start += seconds


def simulate(server, controller, rates, seed=0):
    """Run the server over arrivals to the end; without a controller at full depth."""
    course, queue, running = Course(), deque(), []
    arrivals = itertools.chain(poisson(rates, seed), [float("inf")])
    following, ends, index = next(arrivals), float("inf"), 0
    points = controller.points if controller else None

    def look(now):
        waiting = len(queue) + len(running)
        oldest = now - (running[0] if running else queue[0]) if waiting else 0.0
        before = controller.index
        if controller.update(now, waiting, oldest) != before:
            course.changes.append((now, controller.index))

    while following < float("inf") or ends < float("inf"):
        now = min(following, ends)
        if ends <= following:
            for came in running:
                course.answers.append((now, now - came, index))
                if controller:
                    controller.finished(now, now - came)
            running, ends = [], float("inf")
        else:
            if controller:
                controller.arrived(now)
            if len(queue) < server.bound:
                queue.append(now)
            else:
                course.refused.append(now)
            following = next(arrivals)
        if controller:
            look(now)
        if not running and queue:
            index = controller.index if controller else 0
            running = [queue.popleft() for _ in range(min(server.batch, len(queue)))]
            ends = now + server.seconds(len(running), points[index].speedup if points else 1.0)
    return course
