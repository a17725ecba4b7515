"""Columns of input files: which there are, odd texts in them, and their names in a table of predictions."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import words_tokenizer

from mebert.data.columns import rename_taken
from mebert.data.file_rows import column_names
from mebert.data.text_warnings import TextCounts
from mebert.data.tokenizers import encode_texts
from mebert.errors import UserError

NAMES = st.sampled_from(["text", "label", "exit", "index", "input_label", "input_input_label", "prob_a", "input_exit"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(NAMES, unique=True), st.sets(NAMES))
def test_each_column_has_a_name_of_its_own(columns, own):
    names = rename_taken(columns, own)
    assert list(names) == columns
    assert len(set(names.values())) == len(columns)
    assert not own & set(names.values())
    assert all(names[column] == column for column in columns if column not in own)


def test_columns_of_jsonl_are_those_of_all_rows(tmp_path):
    """A key that is missing is null, so the first row alone does not name all columns."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n\n{"label": "x", "text": "b"}\n', encoding="utf-8")
    assert column_names(str(path)) == ["text", "label"]
    path.write_text("[1, 2]\n", encoding="utf-8")
    with pytest.raises(UserError, match=r'line 1: a list, not a JSON object; write such as \{"text"'):
        column_names(str(path))


def test_both_kinds_of_odd_texts_are_told(recwarn):
    tokenizer, counts = words_tokenizer(), TextCounts()
    for texts in (["", "w1"], ["zzz qqq", "w1 w2"], ["", "zzz qqq"]):
        counts.add([texts], encode_texts(tokenizer, [texts], 16)["input_ids"], tokenizer, lambda row: f"row {row}")
    assert ["empty or blank" in str(w.message) for w in recwarn] == [True, False]
    assert "mostly unknown" in str(recwarn[1].message)
