"""The points between which an elastic server chooses, and models that have none."""

import pytest

from mebert.errors import UserError
from mebert.serving.elastic_control import ElasticControl
from mebert.serving.model_info import ServedPoint
from mebert.serving.schema import ExpectedMetric


def point(name, threshold, *expected):
    """A point whose name is that of its setting; expected are its speed-up and its drop."""
    setting, _, number = name.partition(" ")
    known = [ExpectedMetric(metric="acc", value=0.9, drop=drop, speedup=s, samples=100) for s, drop in [expected] if s]
    own = {"policy": "entropy", "chosen_by": "calibrate", "expected": known[0] if known else None}
    return ServedPoint(name=name, threshold=threshold, settings={setting: float(number)} if number else {}, **own)


UNKNOWN = (None, None)
DEFAULT, FULL = point("default", 0.3, 1.8, 0.004), point("speedup 1", 0.0, *UNKNOWN)
TWICE, THRICE = point("speedup 2", 0.4, 2.0, 0.006), point("speedup 3", 0.6, 3.0, 0.012)
POINTS = [DEFAULT, FULL, TWICE, THRICE, point("max_drop 0.012", 0.5, 2.5, 0.012), point("speedup 9", 0.7, *UNKNOWN)]


def names(control, points=POINTS):
    return [points[one.place].name for one in control.points]


def test_the_points_are_those_with_a_known_drop_within_max_drop():
    assert names(ElasticControl(POINTS, 50)) == ["speedup 1", "default", "speedup 2", "speedup 3"]
    control = ElasticControl(POINTS, 50, max_drop=0.01)
    assert names(control) == ["speedup 1", "default", "speedup 2"]
    assert control.describe() == "full depth to 2.00x by layers (expected drop 0.0060), 3 points"


def test_update_gives_the_place_among_the_points_of_the_server():
    control, found = ElasticControl(POINTS, 50), []
    for tick in range(60):
        control.arrived(tick / 10)
        found.append(control.update(tick / 10, 10, 1.0))
    assert [POINTS[place].name for place in dict.fromkeys(found)] == ["default", "speedup 2", "speedup 3"]
    for tick in range(400):
        place = control.update(6 + tick / 10, 0, 0.0)
    assert POINTS[place] is FULL


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([FULL], r"no operating point .*python -m mebert calibrate runs/a --speedup \[1.5,2,3,4\]"),
        ([point("default", 0.3, *UNKNOWN), FULL], r"target_p99_ms: no operating point with a known drop .*runs/a"),
        ([point("speedup 2", 0.4, 2.0, 0.06), FULL], r"max_drop 0.02: .*0.0600 at 2.00x.*runs/a --max_drop 0.02"),
    ],
)
def test_a_model_without_such_points_is_refused_with_the_command_that_stores_some(points, words):
    with pytest.raises(UserError, match=words):
        ElasticControl(points, 50, model="runs/a")


@pytest.mark.parametrize(
    ("drop", "words"),
    [(0.006, "drop 0.0060"), (-0.0444, "no loss (0.0444 above the last exit)"), (-1e-9, "drop 0.0000")],
)
def test_a_negative_drop_is_said_as_no_loss(drop, words):
    points = [FULL, point("speedup 2", 0.4, 2.0, drop)]
    assert f"to 2.00x by layers (expected {words})" in ElasticControl(points, 50).describe()
