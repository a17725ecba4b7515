"""Every pacing at times worked out by hand, and what all of them keep to."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mebert.curriculum import Annealing, BabySteps, LinearCompetence, OnePass, Pacing, RootCompetence

EPS = 1e-9


def high(pacing, *times):
    """The upper end of the window; the lower one must be 0."""
    windows = [pacing.window(time) for time in times]
    assert {low for low, _ in windows} == {0.0}
    return [share for _, share in windows]


@pytest.mark.parametrize(
    ("pacing", "ends"),
    [
        # At t of the way to `until`: sqrt(0.64 t + 0.36).
        (RootCompetence(0.5, 0.6), {0.0: 0.6, 0.25: math.sqrt(0.68), 0.5 - EPS: 1.0, 0.5: 1.0, 0.75: 1.0, 1.0: 1.0}),
        (RootCompetence(1.0, 0.01), {0.25: math.sqrt(0.25 * 0.9999 + 0.0001)}),
        # A half of the way is 0.2 + 0.8 / 2.
        (LinearCompetence(0.8, 0.2), {0.0: 0.2, 0.2: 0.4, 0.4: 0.6, 0.8 - EPS: 1.0, 0.8: 1.0, 1.0: 1.0}),
        # A stage takes 0.2.
        (BabySteps(0.8, 4), {0.0: 0.25, 0.2 - EPS: 0.25, 0.2 + EPS: 0.5, 0.4 + EPS: 0.75, 0.6 + EPS: 1.0, 1.0: 1.0}),
        # Stages of 1, 2 and 3 parts in 6.
        (Annealing(1.0, 3), {0.0: 1 / 3, 1 / 6 - EPS: 1 / 3, 1 / 6 + EPS: 2 / 3, 0.5 - EPS: 2 / 3, 0.5 + EPS: 1.0}),
        (Annealing(0.6, 2), {0.0: 0.5, 0.2 - EPS: 0.5, 0.2 + EPS: 1.0, 0.6: 1.0, 0.9: 1.0}),
    ],
)
def test_the_share_of_the_rows_in_use_by_hand(pacing, ends):
    assert high(pacing, *ends) == pytest.approx(list(ends.values()))


def test_one_pass_shows_each_bucket_alone():
    pacing = OnePass(until=0.8, buckets=4)
    stages = [(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)]
    for number, stage in enumerate(stages):
        for time in (number * 0.2 + EPS, (number + 1) * 0.2 - EPS):
            assert pacing.window(time) == pytest.approx(stage)
    assert pacing.window(0.0) == pytest.approx(stages[0])


shares = st.floats(0.001, 1.0)
pacings = st.one_of(
    st.builds(RootCompetence, until=shares, start=shares),
    st.builds(LinearCompetence, until=shares, start=shares),
    st.builds(BabySteps, until=shares, buckets=st.integers(2, 50)),
    st.builds(Annealing, until=shares, buckets=st.integers(2, 50)),
    st.builds(OnePass, until=shares, buckets=st.integers(2, 50)),
)


@settings(max_examples=40, deadline=None)
@given(pacings, st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_the_window_lies_within_the_data_and_never_shrinks_at_its_hard_end(pacing, times):
    windows = [pacing.window(time) for time in sorted(times)]
    assert all(-1e-12 <= low < share <= 1.0 for low, share in windows)
    ends = [share for _, share in windows]
    assert ends == sorted(ends)
    assert pacing.window(1.0) == (0.0, 1.0)
    assert pacing.window(pacing.until) == (0.0, 1.0)


@pytest.mark.parametrize("buckets", [2, 3, 7, 50])
def test_buckets_come_one_at_a_time_and_all_of_them(buckets):
    for kind in (BabySteps, Annealing, OnePass):
        ends = [round(kind(1.0, buckets).share(step / 2600) * buckets) for step in range(2600)]
        assert sorted(set(ends)) == list(range(1, buckets + 1))


def test_a_pacing_of_ones_own_needs_one_method():
    class Squared(Pacing):
        def share(self, time):
            return 0.5 + time**2  # more than 1 in the end: the window stops at all rows

    pacing = Squared(until=0.5)
    assert high(pacing, 0.0, 0.25, 0.45, 0.5, 0.9) == pytest.approx([0.5, 0.75, 1.0, 1.0, 1.0])
