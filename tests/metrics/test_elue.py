"""ELUE's score against the formula, term by term."""

import pytest

from mebert.metrics.elue import elue_score, placed_at

REFERENCE = [(3.0, 0.80), (1.0, 0.60), (2.0, 0.76)]


def test_by_hand():
    points = [(1.0, 0.65), (1.5, 0.70), (2.75, 0.80)]
    expected = ((0.65 - 0.60) + (0.70 - 0.68) + (0.80 - 0.79)) / 3
    assert elue_score(points, REFERENCE) == pytest.approx(expected)
    assert elue_score(REFERENCE, REFERENCE) == 0.0


def test_beyond_the_ends_of_the_reference():
    assert elue_score([(9.0, 0.85)], REFERENCE) == pytest.approx(0.05), "more FLOPs do not help it"
    assert elue_score([(0.5, 0.55)], REFERENCE) == pytest.approx(-0.05)


def test_against_another_reference():
    assert elue_score([(5.0, 0.9), (6.0, 0.7)], [(1.0, 0.5)]) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="at least one"):
        elue_score([], REFERENCE)


def test_a_curve_at_other_costs():
    assert placed_at(REFERENCE, [2.5, 9.0]) == [(2.5, pytest.approx(0.78)), (9.0, pytest.approx(0.80))]
    assert placed_at([(1.0, 0.4), (1.0, 0.6)], [1.0]) == [(1.0, pytest.approx(0.5))], "equal costs: their mean"
