"""The controller of the operating point on a simulated clock, with Poisson arrivals at a simulated batching server."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_server import Server, simulate

from mebert.errors import UserError
from mebert.serving.elastic import CalibratedPoint, ElasticController, SlidingWindow, allowed_points

POINTS = [
    CalibratedPoint(1, 0),
    CalibratedPoint(1.5, 0.001),
    CalibratedPoint(2, 0.003),
    CalibratedPoint(3, 0.008),
    CalibratedPoint(5, 0.015),
]
SERVER = Server()
TARGET = 0.065  # about twice the 99th percentile at full depth and half of its capacity
seeds = st.integers(0, 10_000)


def controller(points=POINTS, target=TARGET):
    return ElasticController(points, target)


def load(share):
    return share * SERVER.capacity


@given(st.lists(st.builds(CalibratedPoint, st.floats(1, 6), st.floats(-0.02, 0.05), st.just(1))), st.floats(0, 0.03))
def test_points_beyond_the_largest_drop_are_never_served(others, max_drop):
    found = allowed_points([CalibratedPoint(1, 0), *others], max_drop)
    assert all(point.drop <= max_drop for point in found)
    assert found[0].speedup == 1
    for slow, fast in pairwise(found[1:]):
        assert slow.speedup < fast.speedup
        assert slow.drop < fast.drop, "a slower point that loses as much is never worth its time"
    fastest = max((p.speedup for p in others if p.drop <= max_drop), default=1)
    assert found[-1].speedup == max(1, fastest)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.floats(0, 4), min_size=2, max_size=4), seeds)
def test_it_moves_a_point_at_a_time_and_dwells(shares, seed):
    one = controller()
    course = simulate(SERVER, one, [(2, load(share)) for share in shares], seed)
    last = (-math.inf, 0)
    for time, point in course.changes:
        up = point == last[1] + 1
        assert up or point in (last[1] - 1, 0)
        assert time - last[0] >= (TARGET if up else one.window.seconds)
        last = (time, point)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_keeps_the_target_where_full_depth_fails(seed):
    rates = [(20, load(2))]
    full, elastic = simulate(SERVER, None, rates, seed), simulate(SERVER, controller(), rates, seed)
    assert full.share_late(TARGET, 2) > 1 / 3
    assert elastic.share_late(TARGET, 2) < 0.01
    assert elastic.p99(2) <= TARGET
    assert not elastic.refused


@settings(max_examples=6, deadline=None)
@given(st.floats(1.2, 2.8), seeds)
def test_a_step_in_load_is_followed_and_taken_back(share, seed):
    course = simulate(SERVER, controller(), [(4, load(0.2)), (8, load(share)), (25, load(0.2))], seed)
    assert course.at(4) == 0
    assert course.p99(5, 12) <= 1.1 * TARGET, "a second after the step"
    assert course.at(5) > 0
    assert course.at(30) == course.at(37) == 0, "the slowest again"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 1.5, 2.0])
def test_a_constant_load_does_not_move_it_to_and_fro(share):
    course = simulate(SERVER, controller(), [(60, load(share))], seed=3)
    later = [time for time, _ in course.changes if time > 30]
    assert len(later) <= 10, course.changes
    served = [point for time, _, point in course.answers if time > 30]
    usual = max(set(served), key=served.count)
    assert sum(abs(point - usual) <= 1 for point in served) > 0.97 * len(served)
    if share <= 0.5:
        assert usual == 0
        assert served.count(0) > 0.7 * len(served)


def test_when_all_points_are_exhausted_the_fastest_stays():
    course = simulate(SERVER, controller(POINTS[:3]), [(10, load(4))])
    assert course.at(1) == 2 == course.at(10)
    assert course.refused, "the bound of the queue does the rest"


def test_without_requests_and_with_odd_clocks_nothing_happens():
    one = controller()
    assert math.isnan(one.window.p99())
    for now in (5.0, 5.0, 4.0, 1e6, 1e9):
        assert one.update(now, 0, 0.0) == 0
    assert controller(POINTS[:1]).update(0.0, 10**6, 1e3) == 0, "there is no faster one"


def one_by_one(control, latencies, pause):
    """Requests of one client that waits for its answer, looked at every tenth of a second, with the points."""
    now, found = 0.0, []
    for latency in latencies:
        control.arrived(now)
        ticks = (tick / 10 for tick in range(int(10 * latency) + 1))
        found += [control.update(now + passed, 1, passed) for passed in ticks]
        now += latency
        control.finished(now, latency)
        found += [control.update(now + tick / 10, 0, 0.0) for tick in range(int(10 * pause) + 1)]
        now += pause
    return found


@pytest.mark.parametrize(
    ("latencies", "pause"),
    [
        ([0.36, 0.09, 0.34], 1.0),
        ([5.0], 1.0),
        ([0.36] * 20, 1.0),  # never five answers in two seconds
        ([0.2, 0.2, *[0.01] * 20], 0.05),  # two late ones of many
    ],
)
def test_single_slow_requests_on_an_idle_server_do_not_move_it(latencies, pause):
    assert set(one_by_one(controller(target=0.05), latencies, pause)) == {0}


def test_two_clients_at_a_time_are_no_queue_and_three_are():
    for waiting, wanted in ((2, 0), (3, 1)):
        assert controller().update(1.0, waiting, 2 * TARGET) == wanted


def test_enough_late_requests_move_it():
    one = controller()
    for now in range(10):
        one.arrived(now / 10)
        one.finished(now / 10, 10.0 if now < 2 else 0.001)
        assert one.update(now / 10, 0, 0.0) == 0
    one.finished(1.0, 10.0)
    assert one.update(1.0, 0, 0.0) == 1
    found = one_by_one(controller(target=0.05), [0.36] * 20, pause=0.0)
    assert found[-1] > 0, "a client that asks without a pause, and gets every answer late"


@settings(max_examples=10, deadline=None)
@given(st.floats(1.3, 4), seeds)
def test_a_queue_is_met_within_a_targets_time(share, seed):
    """From the first moment at which the queue foretells more than the target."""
    course = simulate(SERVER, controller(), [(1.5, load(0.3)), (3, load(share))], seed)
    first = (
        min(time - latency for time, latency, _ in course.answers if latency > TARGET)
        if course.share_late(TARGET)
        else math.inf
    )
    changed = [time for time, point in course.changes if point and time >= 1.5]
    assert changed
    assert changed[0] <= first + TARGET + 1e-9


@pytest.mark.parametrize("share", [1.5, 4.0])
def test_an_idle_server_is_back_at_the_slowest_within_seconds(share):
    one = controller()
    course = simulate(SERVER, one, [(30, load(share))])
    last = max(time for time, _, _ in course.answers)
    assert one.index > 0
    while one.index:
        last += 0.1
        one.update(last, 0, 0.0)
    assert last <= 30 + one.window.seconds + 0.5


def test_slow_requests_one_by_one_are_answered_faster():
    """A target below the time of a single request, without any queue."""
    one, now = controller(target=0.010), 0.0
    for _ in range(100):
        now += 0.1
        one.arrived(now)
        one.finished(now, 0.012 / one.point.speedup)
        one.update(now, 0, 0.0)
    assert one.index == 1
    assert one.changes <= 5


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), max_size=40))
def test_the_window_counts_as_a_sort_does(requests):
    window, now, kept = SlidingWindow(2.0, (1.0, 0.5)), 0.0, []
    for passed, latency in requests:
        now += passed
        window.add(now, latency)
        window.forget(now - 2.0)
        kept = [(time, one) for time, one in [*kept, (now, latency)] if time >= now - 2.0]
    assert window.above == [sum(one > 1.0 for _, one in kept), sum(one > 0.5 for _, one in kept)]
    assert not kept or window.p99() == sorted(one for _, one in kept)[math.floor(0.99 * len(kept))]


@pytest.mark.parametrize(("points", "target", "words"), [(POINTS, 0.0, "target_p99_ms"), ([], 0.05, "points is empty")])
def test_what_cannot_be_a_controller_is_refused(points, target, words):
    with pytest.raises(UserError, match=words):
        ElasticController(points, target)
