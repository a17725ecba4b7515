"""GEEP's table against counting in dictionaries, and what a batch must not change."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mebert import TokenExitPredictor
from mebert.exit_predictor.ngrams import hash_runs

VOCABULARY, EXITS, GRAIN = 12, 4, 2.0**-13
texts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9)
samples = st.lists(st.tuples(texts, st.integers(0, EXITS - 1)), min_size=1, max_size=12)


def flat(rows):
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
    offsets = torch.tensor([0, *np.cumsum([len(row) for row in rows])], dtype=torch.int64)
    return tokens, offsets


def padded(rows, extra=0, fill=0):
    longest = max(len(row) for row in rows) + extra
    ids = torch.full((len(rows), longest), fill)
    mask = torch.zeros(len(rows), longest, dtype=torch.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def fitted(data, **more):
    rows, exits = [row for row, _ in data], torch.tensor([e for _, e in data])
    predictor = TokenExitPredictor(EXITS, VOCABULARY, **{"prior_strength": 2.0, "buckets": 2**16, **more})
    return predictor.fit(*flat(rows), exits)


def keys_of(row, ngram):
    return [tuple(row[i : i + n]) for n in range(1, ngram + 1) for i in range(len(row) - n + 1)]


def assume_no_collision(rows, ngram):
    """The dictionary has none; how often the hash has some is a test of its own."""
    keys = {key for row in rows for key in keys_of(row, ngram) if len(key) > 1}
    buckets = {int(hash_runs(torch.tensor(key), len(key), 2**16)) for key in keys}
    assume(len(buckets) == len(keys))


class DictionaryPredictor:
    """The formula, told with dictionaries and loops."""

    def __init__(self, data, ngram=1, strength=2.0):
        self.ngram, self.strength = ngram, strength
        self.counts = defaultdict(Counter)
        self.share = np.bincount([e for _, e in data], minlength=EXITS) / len(data) if data else np.full(EXITS, 0.25)
        for row, e in data:
            for key in keys_of(row, ngram):
                self.counts[key][e] += 1

    def distribution(self, row):
        keys = keys_of(row, self.ngram)
        if not keys:
            return self.share
        parts = []
        for key in keys:
            count = np.array([self.counts[key][e] if key in self.counts else 0 for e in range(EXITS)])
            parts.append((count + self.strength * self.share) / (count.sum() + self.strength))
        return np.mean(parts, axis=0)


@settings(max_examples=60, deadline=None)
@given(samples, st.lists(texts, min_size=1, max_size=5), st.integers(1, 3))
def test_the_table_equals_the_dictionary(data, new, ngram):
    assume_no_collision([row for row, _ in data] + new, ngram)
    predictor, oracle = fitted(data, ngram=ngram), DictionaryPredictor(data, ngram)
    found = predictor.distribution(*padded(new))
    wanted = np.stack([oracle.distribution(row) for row in new])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, atol=2 * GRAIN)
    np.testing.assert_allclose(found.sum(1).numpy(), 1.0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(samples, st.integers(1, 3))
def test_leaving_a_sample_out_equals_fitting_without_it(data, ngram):
    rows, exits = [row for row, _ in data], torch.tensor([e for _, e in data])
    assume_no_collision(rows, ngram)
    predictor = fitted(data, ngram=ngram)
    found = predictor.leave_one_out(*flat(rows), exits)
    for i, row in enumerate(rows):
        others = data[:i] + data[i + 1 :]
        if others:
            wanted = DictionaryPredictor(others, ngram).distribution(row)
            np.testing.assert_allclose(found[i].numpy(), wanted, atol=1e-5)
    assert len(found) == len(data)


def test_leaving_out_goes_on_behind_the_first_chunk(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, VOCABULARY, (5,), generator=generator).tolist() for _ in range(23)]
    exits = torch.randint(0, EXITS, (23,), generator=generator)
    predictor = fitted(list(zip(rows, exits.tolist(), strict=True)), ngram=2)
    whole = predictor.leave_one_out(*flat(rows), exits)
    monkeypatch.setattr("mebert.exit_predictor.tokens.CHUNK", 4)
    assert torch.equal(predictor.leave_one_out(*flat(rows), exits), whole)


@settings(max_examples=40, deadline=None)
@given(samples, st.lists(texts, min_size=1, max_size=7), st.integers(1, 3), st.integers(0, 5), st.data())
def test_a_sample_is_predicted_the_same_in_every_batch(data, new, ngram, extra, draw):
    """To the last bit: padding, its content, the other rows and their order do not matter."""
    coverage = draw.draw(st.sampled_from([None, 0.3, 0.5, 0.9, 1.0]))
    predictor = fitted(data, ngram=ngram, coverage=coverage)
    together = predictor.distribution(*padded(new, extra, fill=VOCABULARY - 1))
    exits = predictor.predict(*padded(new, extra))
    assert exits.dtype == torch.int64
    for i, row in enumerate(new):
        alone = padded([row])
        assert torch.equal(predictor.distribution(*alone)[0], together[i])
        assert predictor.predict(*alone)[0] == exits[i]


def test_unseen_and_special_tokens_say_what_all_samples_say():
    data = [([1, 2, 3], 0), ([1, 4], 0), ([1, 5], 2), ([1, 6], 3)]
    predictor = fitted(data)
    share = torch.tensor([0.5, 0.0, 0.25, 0.25])
    assert torch.allclose(predictor.distribution(*padded([[9, 10]]))[0], share)
    other_vocabulary = torch.tensor([[VOCABULARY, 999, -3]])
    assert torch.allclose(predictor.distribution(other_vocabulary, torch.ones(1, 3))[0], share)
    ids, mask = padded([[1, 2]])
    special = torch.tensor([[1, 1]])
    assert torch.allclose(predictor.distribution(ids, mask, special)[0], share)
    one = predictor.distribution(ids, mask, torch.tensor([[1, 0]]))
    unseen = predictor.distribution(torch.tensor([[9, 2]]), mask)
    assert torch.equal(one, unseen), "a special token counts as an unseen one"


def test_nothing_but_padding_and_empty_batches():
    predictor = fitted([([1, 2], 1), ([3], 1), ([4], 2)], ngram=2)
    distribution = predictor.distribution(torch.tensor([[0, 0], [1, 2]]), torch.tensor([[0, 0], [1, 1]]))
    assert torch.allclose(distribution[0], torch.tensor([0.0, 2 / 3, 1 / 3, 0.0]), atol=2 * GRAIN)
    assert predictor.predict(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3)).shape == (0,)
    unfitted = TokenExitPredictor(EXITS, VOCABULARY).distribution(*padded([[1]]))
    assert torch.allclose(unfitted, torch.full((1, EXITS), 0.25)), "nothing counted: all exits are alike"


def test_runs_do_not_reach_into_the_next_sample_or_into_padding():
    predictor = fitted([([1, 2], 0), ([3, 4], 1)], ngram=2)
    assert int(predictor.counts[VOCABULARY:].sum()) == 2
    padding_inside = predictor.distribution(torch.tensor([[1, 7, 2]]), torch.tensor([[1, 0, 1]]))
    tokens_alone = fitted([([1, 2], 0), ([3, 4], 1)], ngram=1).distribution(*padded([[1, 2]]))
    assert torch.equal(padding_inside, tokens_alone)


@pytest.mark.parametrize("n", [2, 3])
def test_hashes_collide_no_more_than_chance(n):
    """Runs of neighbouring small ids, where a weak hash would fall together."""
    side = torch.arange(64)
    runs = torch.cartesian_prod(*[side] * n)[: 2**15]
    buckets = 2**12
    found = torch.bincount(hash_runs(runs, n, buckets).flatten(), minlength=buckets)
    mean = len(runs) / buckets
    assert found.sum() == len(runs)
    assert len(found) == buckets
    # Chance is Poisson: variance equals mean, to some percent with so many buckets; and nothing far outside.
    assert float(found.double().var()) == pytest.approx(mean, rel=0.15)
    assert int(found.max()) < mean + 8 * mean**0.5
    swapped = hash_runs(runs.flip(1), n, 2**40).flatten()
    same = (swapped == hash_runs(runs, n, 2**40).flatten()) & (runs != runs.flip(1)).any(1)
    assert not same.any(), "the order of the tokens matters"


def test_deep_texts_stay_exact():
    """2048 keys: sums of the table's values have no rounding, hence no order."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, VOCABULARY, (30,), generator=generator).tolist() for _ in range(50)]
    predictor = fitted([(row, i % EXITS) for i, row in enumerate(rows)])
    ids = torch.randint(0, VOCABULARY, (1, 2048), generator=generator)
    mask = torch.ones_like(ids)
    shuffled = ids[:, torch.randperm(2048, generator=generator)]
    assert torch.equal(predictor.distribution(ids, mask), predictor.distribution(shuffled, mask))
