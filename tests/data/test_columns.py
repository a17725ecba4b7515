"""Names of the input's columns in a table of predictions."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mebert.data.columns import rename_taken

NAMES = st.sampled_from(["text", "label", "exit", "index", "input_label", "input_input_label", "prob_a", "input_exit"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(NAMES, unique=True), st.sets(NAMES))
def test_each_column_has_a_name_of_its_own(columns, own):
    names = rename_taken(columns, own)
    assert list(names) == columns
    assert len(set(names.values())) == len(columns)
    assert not own & set(names.values())
    assert all(names[column] == column for column in columns if column not in own)
