"""Which rows go together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mebert.inference import plan_batches

lengths_of = st.lists(st.integers(1, 50), max_size=60)


@given(lengths=lengths_of, tokens=st.none() | st.integers(1, 120), most=st.integers(1, 9))
def test_every_row_once_within_both_limits_the_longest_first(lengths, tokens, most):
    batches = plan_batches(lengths, tokens, most)
    rows = [row for batch in batches for row in batch.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    in_order = [lengths[row] for row in rows]
    assert in_order == sorted(lengths, reverse=True)
    for batch in batches:
        widest = max(lengths[row] for row in batch)
        assert 1 <= len(batch) <= most
        assert tokens is None or len(batch) == 1 or widest * len(batch) <= tokens


@given(lengths=lengths_of, tokens=st.integers(1, 120), most=st.integers(1, 9))
def test_no_batch_could_have_taken_the_next_row(lengths, tokens, most):
    batches = plan_batches(np.asarray(lengths), tokens, most)
    for batch in batches[:-1]:
        widest = lengths[batch[0]]
        assert len(batch) == most or widest * (len(batch) + 1) > tokens
