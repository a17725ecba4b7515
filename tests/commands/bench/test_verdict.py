"""The one line: whether early exit pays, and whether its accuracy holds."""

import pytest

from mebert.commands.bench.accuracy import Accuracy
from mebert.commands.bench.output import explained
from mebert.commands.bench.results import Row
from mebert.commands.bench.verdict import verdict
from mebert.storage.operating_point import MAX_DROP, OperatingPoint


def row(name, seconds, precision="float32", size=32, target=None):
    return Row(
        name, precision, size, "entropy" if target else "", target, 10, seconds, 1.0, 1.0, 1.0,
        10 / sorted(seconds)[1], 3.0, 2.1 if target else 1.0, None, None, None,
    )  # fmt: skip


def test_the_verdict_names_the_best_of_both_sides():
    rows = [row("HF", [9, 9, 9]), row("HF sorted", [4, 4, 4], "bfloat16"), row("plain", [5, 5, 5])]
    rows += [row("HF 3 layers", [1, 1, 1])]  # no rival: it is not the whole model
    rows += [row("shrink", [3, 3, 3], target=2.0), row("refill", [2, 2, 2], "bfloat16", target=2.0)]
    rows += [row("refill", [1, 1, 1], target=3.0)]  # faster, and less likely to keep the accuracy
    line = verdict(rows)
    assert line.startswith("Early exit pays here: at batch 32 refill in bfloat16 gives 2.00x the samples/s of the")
    assert "(HF sorted, bfloat16) with 2.10x fewer FLOPs" in line
    assert "\n" not in line


@pytest.mark.parametrize("known", [None, {}])
def test_full_depth_among_the_speed_ups_is_no_early_exit(known):
    rows = [row("plain", [4, 4, 4]), row("refill", [4.1] * 3, target=1.0), row("refill", [2, 2, 2], target=2.0)]
    line = verdict(rows, known)
    assert line.startswith("Early exit pays here")
    assert "gives 2.00x the samples/s" in line
    assert verdict(rows[:2], known).startswith("Early exit does not pay here")


def test_the_caption_explains_the_rows_that_are_shown_and_no_others():
    few = explained([row("plain", [1, 1, 1]), row("shrink", [1, 1, 1], target=2.0)], trained=True)
    assert few.startswith("plain: ")
    assert not any(name in few for name in ("HF", "refill", "predicted", "drawn"))
    rows = [row("HF", [1, 1, 1]), row("HF 2 layers", [1, 1, 1]), row("HF sorted", [1, 1, 1])]
    rows[1].speedup_wall = 2.0
    many = explained([*rows, row("refill", [1, 1, 1], target=2.0)], trained=False)
    assert "of engines over plain, of HF k layers over HF sorted. vs HF: over HF." in many
    assert "refill lets samples wait" in many
    assert many.endswith("Exits are drawn.")


def test_the_verdict_says_no_and_in_part():
    never = [row("HF", [1, 1, 1]), row("shrink", [1.2, 1.2, 1.2], target=2.0)]
    assert verdict(never).startswith("Early exit does not pay here: at batch 32 shrink in float32 gives 0.83x")
    part = [*never, row("HF", [1, 1, 1], size=1), row("shrink", [0.5, 0.5, 0.5], size=1, target=2.0)]
    assert verdict(part).startswith("Early exit pays here in part: at batch 1 shrink")
    assert "It does not at batch 32" in verdict(part)
    assert "nothing to say" in verdict([row("HF", [1, 1, 1])])


@pytest.mark.parametrize(
    ("drop", "interval", "seconds", "wanted"),
    [
        (0.001, (-0.01, 0.01), 1.0, "Early exit pays here at an accuracy that holds (edr: acc 0.8000, drop 0.0010"),
        (0.02, (0.01, 0.03), 1.0, "Early exit does not pay here at an accuracy that holds: edr at 2x by FLOPs: acc"),
        (0.02, (0.004, 0.03), 1.0, "Early exit pays here, but whether its accuracy holds is open (edr: acc 0.8000"),
        (0.02, None, 1.0, "Early exit does not pay here at an accuracy that holds: edr at 2x"),
        (0.001, None, 3.0, "Early exit does not pay here (edr: acc 0.8000, drop 0.0010 on 500 rows of test): at batch"),
        (None, None, 1.0, "Early exit pays here in speed, at an accuracy that is not known (edr at 2x by FLOPs)"),
    ],
)
def test_the_verdict_is_about_accuracy(drop, interval, seconds, wanted):
    known = None if drop is None else Accuracy("acc", 0.8, drop, interval, 500, "test", allowed=0.005)
    rows = [row("HF", [9, 9, 9]), row("plain", [2, 2, 2]), row("plain", [0.1] * 3, "int8")]
    rows += [row("shrink", [seconds] * 3, target=2.0), row("predicted", [0.2] * 3, target=2.0)]
    for one in rows:
        one.policy = "edr" if one.target else ""
    line = verdict(rows, {("edr", 2.0): known})
    assert line.startswith(wanted), line
    assert "predicted" not in line, "its predictor was fitted to the texts that are measured"
    assert "int8" not in line, "it changes the answers"
    assert "\n" not in line


def test_one_round_is_said_to_be_one():
    rows = [row("plain", [6, 6, 6]), row("shrink", [3, 3, 3], target=2.0)]
    assert "one round" not in verdict(rows)
    for one in rows:
        one.seconds = one.seconds[:1]
    assert verdict(rows).endswith("give a larger --budget, or measure on an idle machine.)")


def test_the_fastest_point_that_holds_counts():
    rows = [row("plain", [6, 6, 6])]
    rows += [row("shrink", [6 / target] * 3, target=target) for target in (1.5, 2.0, 3.0)]
    drops = {1.5: 0.0, 2.0: 0.004, 3.0: 0.05}
    known = {("entropy", t): Accuracy("acc", 0.8, d, (d, d), 500, "test", 0.005) for t, d in drops.items()}
    assert "gives 2.00x the samples/s" in verdict(rows, known)


@pytest.mark.parametrize(
    ("chosen_by", "allowed"),
    [
        ("max_drop 0.02", 0.02),
        ("max_drop 1e-05", 1e-5),
        ("calibrate, max_drop 0.3", 0.3),
        ("target_speedup 2", MAX_DROP),
        ("the model as it was saved", MAX_DROP),
    ],
)
def test_what_may_be_lost_is_what_the_point_was_chosen_for(chosen_by, allowed):
    assert OperatingPoint("edr", 0.5, chosen_by).allowed_drop == allowed
