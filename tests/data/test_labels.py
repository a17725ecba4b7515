"""Labels as users write them."""

import numpy as np
import pytest

from mebert.data.labels import check_label_order, encode_labels, infer_label_names
from mebert.errors import UserError


def where(row):
    return f"rows.csv, line {row + 2}"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["1", "0", "2", "-1", "", None], ["0", "1", "2"]),
        ([1.0, 0.0, float("nan")], ["0", "1"]),
        (["pos", "neg", "pos", " neg "], ["neg", "pos"]),
        (["true", "false"], ["false", "true"]),
        ([str(number) for number in range(12)], [str(number) for number in range(12)]),
    ],
)
def test_names_are_read_from_the_column(values, names):
    assert infer_label_names(values, "x") == names


def test_identifiers_are_no_classes():
    with pytest.raises(UserError, match="2000 different values"):
        infer_label_names([f"id{number}" for number in range(2000)], "column 'label' of x.csv")


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        (["pos", "0", "", None, "-1", 1], ["neg", "pos"], [1, 0, -1, -1, -1, 1]),
        (["1", "2"], ["1", "2"], [0, 1]),  # a name is looked up before a number
        (np.array([0, 2, -1]), ["a", "b", "c"], [0, 2, -1]),
    ],
)
def test_names_numbers_and_missing_labels_are_encoded(values, names, expected):
    labels, labelled = encode_labels(values, names, where)
    assert labels.tolist() == expected
    assert labelled.tolist() == [label >= 0 for label in expected]
    assert labels.dtype == np.int64


@pytest.mark.parametrize("values", [["neg", "perhaps"], [0, 2], np.array([1, 2]), np.array([0, -2])])
def test_labels_outside_the_classes_name_row_and_value(values):
    with pytest.raises(UserError, match=r"rows.csv, line 3: label '(perhaps|2|-2)' is none of the classes neg, pos"):
        encode_labels(values, ["neg", "pos"], where)


def test_numbers_to_be_estimated():
    labels, labelled = encode_labels(["1.5", -1.0, "", 3], ["score"], where, regression=True)
    assert labels.dtype == np.float32
    assert labels[[0, 1, 3]].tolist() == [1.5, -1.0, 3.0]
    assert labelled.tolist() == [True, True, False, True]
    hidden = encode_labels([2.0, -1.0], ["score"], where, regression=True, negative_is_hidden=True)[1]
    assert hidden.tolist() == [True, False]
    with pytest.raises(UserError, match="line 2: label 'good' is no number"):
        encode_labels(["good"], ["score"], where, regression=True)


@pytest.mark.parametrize("trained", [None, ["a", "b"], ["LABEL_0", "LABEL_1"]])
def test_a_model_that_may_have_a_tasks_classes(trained):
    check_label_order(trained, ["a", "b"], "task", "wrong model?")


def test_a_model_with_other_classes_or_another_order():
    for trained in (["b", "a"], ["0", "1"], ["a", "c"]):
        with pytest.raises(UserError, match=rf"trained for {', '.join(trained)}, in this order.*a, b: wrong model\?"):
            check_label_order(trained, ["a", "b"], "task", "wrong model?")
    check_label_order(["similarity"], ["score"], "task", "the one name of a regression puts nothing in order")
