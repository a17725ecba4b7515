"""Labels as users write them."""

import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mebert.data.label_names import check_label_order, fill_in_labels, infer_label_names, is_unnamed
from mebert.data.labels import encode_labels
from mebert.errors import UserError


def where(row):
    return f"rows.csv, line {row + 2}"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["1", "0", "2", "", None], ["0", "1", "2"]),
        ([1.0, 0.0, float("nan")], ["0", "1"]),
        (["pos", "neg", "pos", " neg ", "-1"], ["neg", "pos"]),
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
        (["pos", "", None, "-1", "neg"], ["neg", "pos"], [1, -1, -1, -1, 0]),
        (["0", 1, None, "1", -1, -1.0], ["neg", "pos"], [0, 1, -1, 1, -1, -1]),
        (["1", "2", "-1", 1, 2.0], ["-1", "1", "2"], [1, 2, 0, 1, 2]),
        (["1", "0"], ["1", "0"], [0, 1]),
        (["label_1", "1", "0"], ["label_0", "label_1"], [1, 1, 0]),
        (np.array([0, 2, -1]), ["a", "b", "c"], [0, 2, -1]),
        (np.array([0, 2, -1]), ["1 star", "2 stars", "3 stars"], [0, 2, -1]),  # class numbers of the Hub
        (np.array([1, 3, -1]), ["1", "2", "3"], [0, 2, -1]),  # names
        (np.array([1, 0, -1]), ["1", "0"], [0, 1, -1]),
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


@pytest.mark.parametrize(
    ("names", "label", "says"),
    [
        (["1", "2", "3"], "0", "label '0' is none of the classes 1, 2, 3;"),
        (["1", "2", "3"], 0, "label '0' is none of the classes"),
        (["01", "02", "03"], "1", "label '1' is none of the classes"),
        (["1.5", "2.5"], "1", "label '1' is none of the classes"),
        (["1 star", "2 stars"], "1", "label '1' is none of the classes"),
        (["grade ٣", "b"], "0", "label '0' is none of the classes"),
        (["neg", "pos"], "Pos", "write 'pos', or"),
        (["neg", "pos"], "p\u200dos", "write 'pos', or"),
        (["neg", "pos"], "neg,pos", "several labels a row need a model trained with --data.label_separator ','"),
    ],
)
def test_there_is_no_fallback_to_positions_where_names_have_numbers(names, label, says):
    with pytest.raises(UserError, match=says):
        encode_labels([label], names, where)


def test_minus_one_beside_numbers_is_asked_for():
    for names in (["0", "1"], ["negative", "neutral", "positive"], ["-2", "0", "1"]):
        with pytest.raises(UserError, match=r"line 3: label '-1' beside other numbers.*\[\"-1\", \"0\", \"1\"\]"):
            encode_labels(["0", "-1", "1"], names, where)


def test_numbers_to_be_estimated():
    labels, labelled = encode_labels(["1.5", -1.0, "", 3], ["score"], where, regression=True)
    assert labels.dtype == np.float32
    assert labels[[0, 1, 3]].tolist() == [1.5, -1.0, 3.0]
    assert labelled.tolist() == [True, True, False, True]
    hidden = encode_labels([2.0, -1.0], ["score"], where, regression=True, negative_is_hidden=True)[1]
    assert hidden.tolist() == [True, False]
    with pytest.raises(UserError, match="line 2: label 'good' is not a number"):
        encode_labels(["good"], ["score"], where, regression=True)


@pytest.mark.parametrize("trained", [None, ["a", "b"], ["a\u200b", " b"], ["LABEL_0", "LABEL_1"]])
def test_a_model_that_may_have_a_tasks_classes(trained):
    check_label_order(trained, ["a", "b"], "task", "wrong model?")


def test_a_model_with_other_classes_or_another_order():
    for trained in (["b", "a"], ["0", "1"], ["a", "c"], ["A", "b"], ["a", "b", "c"]):
        with pytest.raises(UserError, match=rf"trained for {', '.join(trained)}, in this order.*a, b: wrong model\?"):
            check_label_order(trained, ["a", "b"], "task", "wrong model?")
    check_label_order(["similarity"], ["score"], "task", "the one name of a regression puts nothing in order")
    with pytest.raises(UserError, match="trained for LABEL_0, LABEL_1, in"):  # names, then
        check_label_order(["LABEL_0", "LABEL_1"], ["LABEL_1", "LABEL_0"], "task", "")
    many = [f"c{n}" for n in range(15)]
    with pytest.raises(UserError, match=r"trained for \.\.\., c10, c11, .*are \.\.\., c10, c12, c11, "):
        check_label_order(many, [*many[:11], "c12", "c11", *many[13:]], "task", "")


WORDS = ["negative", "positive", "Positive", "caf\u00e9", "cafe\u0301", "not_a", "a b", "LABEL_1", "LABEL_0", "3 stars"]
NUMBERS = ["0", "1", "2", "3", "-1", "00", "01", "1.0", "0.5", "+1", "10"]
NAMES = st.lists(st.sampled_from(WORDS + NUMBERS), min_size=2, max_size=4, unique=True)


@given(st.data())
def test_labels_are_the_same_or_refused_but_never_others(data):
    """Whatever names a model has, the settings give and a file holds: each label is read as what it says."""
    names = data.draw(NAMES | st.lists(st.sampled_from(NUMBERS), min_size=2, max_size=4, unique=True))
    renamed = st.lists(st.sampled_from(names + WORDS), min_size=len(names), max_size=len(names))
    given_labels = data.draw(st.none() | st.permutations(names) | renamed)
    column = data.draw(st.lists(st.sampled_from(names + NUMBERS), min_size=1, max_size=6))
    settings = {"train_file": "gone.csv", "labels": given_labels, "regression": False}
    fill_in_labels(settings, names)
    try:
        if settings["labels"] is None:
            assert is_unnamed(names)  # nothing is known of them
            return
        check_label_order(names, settings["labels"], "data.labels", "leave it out")
        labels, labelled = encode_labels(column, settings["labels"], where)
    except UserError:
        return
    for text, label, known in zip(column, labels.tolist(), labelled.tolist(), strict=True):
        if known and not _same(names[label], text):
            assert _number(text) == label  # a position
            assert all(_number(name) is None for name in names)
        elif not known:
            assert _number(text) == -1
            assert not any(_same(name, "-1") for name in names)


def _same(name, text):
    """A definition by hand: the same text in NFC, or the same whole number without zeros in front."""
    one, two = (unicodedata.normalize("NFC", x) for x in (name, text))
    coded = any(len(x) > 1 and x.startswith("0") and "." not in x for x in (one, two))
    return one == two or (not coded and _number(one) is not None and _number(one) == _number(two))


def _number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value.is_integer() else value


@pytest.mark.parametrize(
    ("settings", "names", "filled"),
    [
        ({"labels": None, "regression": False}, ["b", "a"], {"labels": ["b", "a"]}),
        ({"labels": ["a", "b"], "regression": False}, ["b", "a"], {}),  # refused later
        ({"labels": None, "regression": True}, ["score"], {}),
        ({"labels": None, "regression": False}, ["score"], {"regression": True}),
        ({"labels": None, "regression": False, "task": "rte"}, ["b", "a"], {}),
        ({"labels": None, "regression": False}, ["LABEL_0", "LABEL_1"], {}),  # no names
        ({"labels": None, "regression": False}, None, {}),
    ],
)
def test_settings_of_own_files_take_the_models_labels(settings, names, filled):
    settings |= {"train_file": "gone.csv"}
    expected = settings | filled
    fill_in_labels(settings, names)
    assert settings == expected
