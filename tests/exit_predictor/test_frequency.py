"""Static exits by the frequency of tokens, against a transcription by loops."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import VOCABULARY, tiny_model

from mebert import Entropy, FrequencyExitPredictor
from mebert.data.tokenised import TokenisedSplit, collate
from mebert.exit_predictor import ExitPredictor, fit_predictor, fit_static, score_rows
from mebert.exit_predictor.base import predictor_from_state
from mebert.exit_predictor.frequency import frequency_buckets
from mebert.metrics.curve import replay, speedup_layers

LAYERS = 3  # of the tiny model, each with an exit


def zipf_split(rows=60, seed=0):
    """Rows whose token n is about 1/n as frequent as the first."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 14, rows)
    tokens = np.minimum(4 + generator.zipf(1.3, lengths.sum()), VOCABULARY - 1).astype(np.int32)
    return TokenisedSplit(tokens, np.concatenate([[0], np.cumsum(lengths)]), None, np.arange(rows))


def buckets_by_hand(tokens, exits):
    """Token to bucket, as the released code: types, the frequent first, and on to the next bucket when one is full."""
    counted = Counter(int(token) for token in tokens)
    size, bucket, inside, found = len(counted) // exits, 0, 0, {}
    for token, _ in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])):
        found[token] = bucket
        inside += 1
        if inside >= size and bucket < exits - 1:
            bucket, inside = bucket + 1, 0
    return found


def exit_by_hand(ids, buckets, exits, coverage):
    """The first exit by which the share `coverage` of the tokens would have left."""
    for exit_index in range(exits):
        gone = sum(buckets.get(int(token), exits - 1) <= exit_index for token in ids)
        if Fraction(gone, len(ids)) >= Fraction(coverage):
            return exit_index
    return exits - 1


def buckets_of_old(tokens, exits):
    """As mebert 0.1.0: occurrences in a row, the frequent first; where is the middle of each token's own?"""
    counted = Counter(int(token) for token in tokens)
    before, found = 0, {}
    for token, count in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])):
        middle = Fraction(2 * before + count, 2 * len(tokens))
        found[token] = math.floor(middle * exits)
        before += count
    return found


@pytest.mark.parametrize("equal", ["types", "occurrences"])
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 6))
def test_buckets(equal, tokens, exits):
    counts = torch.bincount(torch.tensor(tokens), minlength=12)
    found = frequency_buckets(counts, exits, equal).tolist()
    by_hand = (buckets_by_hand if equal == "types" else buckets_of_old)(tokens, exits)
    assert found == [by_hand.get(token, exits - 1) for token in range(12)]


def test_a_predictor_of_0_1_0_keeps_its_buckets_and_a_new_one_its_own(tmp_path):
    tokens = torch.tensor([1] * 20 + [2, 3, 4, 5, 6])
    found = FrequencyExitPredictor(3, 8).fit(tokens, special_ids=[6])
    assert found.buckets.tolist() == [2, 0, 1, 2, 2, 2, 2, 2], "5 types, 1 for each exit, the rest at the last"
    found.save(tmp_path)
    assert torch.equal(ExitPredictor.load(tmp_path).buckets, found.buckets)
    old = FrequencyExitPredictor(3, 8, equal="occurrences").fit(tokens)
    state = old.state()
    del state["init_args"]["equal"]
    assert torch.equal(predictor_from_state(state).buckets, old.buckets)
    assert old.buckets.tolist() == [2, 1, 2, 2, 2, 2, 2, 2], "the middle of the 20 is in the second third of 25"


def test_a_static_predictor_is_what_the_loops_say_and_as_fast_as_wanted():
    model, split = tiny_model(), zipf_split()
    predictor = fit_predictor(model, Entropy(0.4), split, kind="static", speedup=1.5, split="train")
    assert isinstance(predictor, FrequencyExitPredictor)
    buckets = buckets_by_hand(split.tokens, LAYERS)
    fresh = zipf_split(seed=1)
    for rows in (split, fresh):
        expected = [exit_by_hand(rows[n]["input_ids"], buckets, LAYERS, predictor.coverage) for n in range(len(rows))]
        batch = collate([rows[n] for n in range(len(rows))], 0)
        assert predictor.predict(batch["input_ids"], batch["attention_mask"]).tolist() == expected
        if rows is split:
            assert len(set(expected)) == LAYERS
            assert speedup_layers(torch.tensor(expected), model.exit_layers) >= 1.5
            slower = math.nextafter(predictor.coverage, 2) + 0.2  # the largest coverage that is fast enough was taken
            late = [exit_by_hand(rows[n]["input_ids"], buckets, LAYERS, slower) for n in range(len(rows))]
            assert speedup_layers(torch.tensor(late), model.exit_layers) < 1.5
    assert (predictor.origin.policy, predictor.origin.threshold, predictor.origin.speedup) == ("entropy", 0.4, 1.5)
    assert (predictor.origin.split, predictor.origin.rows) == ("train", 60)


def test_nothing_is_run_for_a_given_speedup(monkeypatch):
    model = tiny_model()
    monkeypatch.setattr(model, "step", lambda *_: pytest.fail("a layer has run"))
    monkeypatch.setattr(model, "forward", lambda *_: pytest.fail("the model has run"))
    found = [fit_predictor(model, Entropy(), zipf_split(), kind="static", speedup=s).coverage for s in (1.2, 1.5, 2.5)]
    assert found == sorted(found, reverse=True)
    assert fit_predictor(model, Entropy(), zipf_split(), kind="static", speedup=2.0, coverage=0.7).coverage == 0.7


def test_without_a_speedup_it_is_as_fast_as_the_policy():
    model, split = tiny_model(), zipf_split()
    scores = score_rows(model, Entropy(), split).scores
    policy = Entropy(float(scores[0].median()))
    taken = replay(scores, policy.threshold)
    assert 1 < speedup_layers(taken, model.exit_layers) < LAYERS
    predictor = fit_predictor(model, policy, split, kind="static")
    batch = collate([split[n] for n in range(len(split))], 0)
    predicted = predictor.predict(batch["input_ids"], batch["attention_mask"])
    assert speedup_layers(predicted, model.exit_layers) >= speedup_layers(taken, model.exit_layers)
    assert predictor.origin.speedup is None


def test_a_text_is_predicted_the_same_exit_in_every_batch_and_from_rows():
    split = zipf_split(rows=40)
    tokens, offsets = torch.from_numpy(split.tokens), torch.from_numpy(split.offsets)
    predictor = FrequencyExitPredictor(5, VOCABULARY, 0.6).fit(tokens)
    whole = collate([split[n] for n in range(40)], 0, pad_to_multiple_of=32)
    by_batch = predictor.distribution(whole["input_ids"], whole["attention_mask"])
    alone = [collate([split[n]], 0) for n in range(40)]
    singly = torch.cat([predictor.distribution(one["input_ids"], one["attention_mask"]) for one in alone])
    assert torch.equal(by_batch, singly)
    assert torch.equal(by_batch, predictor.distribution_of_rows(tokens, offsets))
    assert by_batch.sum(1) == pytest.approx(torch.ones(40), abs=1e-6)


def test_unknown_and_special_tokens_and_none_at_all():
    tokens = torch.tensor([1, 1, 2, 2, 3, 3, 7, 7, 7])
    predictor = FrequencyExitPredictor(3, 10).fit(tokens, special_ids=[7])  # buckets 0, 1, 2, and 7 in the last
    assert int(predictor.buckets[7]) == 2
    ids = torch.tensor([[1, 1, 2, 3], [1, 2, 99, -5], [5, 5, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    wanted = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
    assert torch.equal(predictor.distribution(ids, mask), wanted)
    special = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    marked = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert torch.equal(predictor.distribution(ids, mask, special), marked)


def test_counted_on_some_rows_and_as_fast_as_wanted_on_others():
    model, split, fresh = tiny_model(), zipf_split(), zipf_split(rows=50, seed=3)
    predictor = fit_static(model, split, Entropy(0.4), 2.0, fresh=fresh)
    both = torch.from_numpy(np.concatenate([split.tokens, fresh.tokens]))
    assert torch.equal(predictor.counts, torch.bincount(both, minlength=VOCABULARY))
    batch = collate([fresh[n] for n in range(50)], 0)
    exits = predictor.predict(batch["input_ids"], batch["attention_mask"])
    assert speedup_layers(exits, model.exit_layers) >= 2.0
    assert predictor.coverage != fit_static(model, split, Entropy(0.4), 2.0).coverage
