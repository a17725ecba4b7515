"""Every measure against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from mebert.curriculum import ExitDepth, ExitErrorRate, KnownDifficulty, Length, Loss, Margin, WordRarity
from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError


def split_of(*rows, difficulty=None):
    """A split of rows of token ids, numbered 10, 11, ..."""
    return TokenisedSplit(
        tokens=np.concatenate([np.array(row, dtype=np.int32) for row in rows]),
        offsets=np.cumsum([0, *map(len, rows)]),
        token_types=None,
        index=np.arange(10, 10 + len(rows)),
        difficulty=None if difficulty is None else np.array(difficulty),
    )


def test_length_counts_tokens():
    assert Length().of_split(split_of([7], [7, 8, 9], [7, 7])).tolist() == [1.0, 3.0, 2.0]


def test_word_rarity_sums_minus_log_probability_or_averages_it():
    # Token 7 is 4 of 8 tokens, 8 is 2 of 8, 9 and 5 are 1 of 8 each.
    split = split_of([7, 7], [7, 8, 9], [8], [7, 5])
    ln2 = math.log(2)
    sums = [2 * ln2, 1 * ln2 + 2 * ln2 + 3 * ln2, 2 * ln2, 1 * ln2 + 3 * ln2]
    np.testing.assert_allclose(WordRarity().of_split(split), sums)
    np.testing.assert_allclose(WordRarity(average=True).of_split(split), [ln2, 2 * ln2, 2 * ln2, 2 * ln2])


def test_known_difficulty_is_the_column_of_the_data():
    assert KnownDifficulty().of_split(split_of([1], [2], difficulty=[4, 1])).tolist() == [4.0, 1.0]
    with pytest.raises(UserError, match="difficulty KnownDifficulty needs rows with a column `difficulty`"):
        KnownDifficulty().of_split(split_of([1], [2]))


# Probabilities of 3 classes at 2 exits for 2 samples; their logarithms are logits that have them as softmax.
P = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], [[0.7, 0.1, 0.2], [0.25, 0.25, 0.5]]])
LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("measure", "scores"),
    [
        (Loss(), [-(math.log(0.5) + math.log(0.7)) / 2, -(math.log(0.1) + math.log(0.25)) / 2]),
        (Loss(exits="last"), [-math.log(0.7), -math.log(0.25)]),
        # Sample 0, right class 0: 0.3 - 0.5 and 0.2 - 0.7; sample 1, right class 1: 0.8 - 0.1 and 0.5 - 0.25.
        (Margin(), [(-0.2 - 0.5) / 2, (0.7 + 0.25) / 2]),
        (Margin(exits="last"), [-0.5, 0.25]),
    ],
)
def test_loss_and_margin_of_all_exits_or_the_last(measure, scores):
    """The cross entropy; the best wrong probability minus the right one."""
    torch.testing.assert_close(measure.of_logits(P.log(), LABELS), torch.tensor(scores))


def test_loss_of_a_regression_is_the_squared_error():
    values = torch.tensor([[[1.0], [2.0]], [[3.0], [0.5]]])  # 2 exits, 2 samples
    labels = torch.tensor([2.0, 0.0])
    # Errors (-1, 1) and (2, 0.5).
    assert Loss().of_logits(values, labels).tolist() == [1.0, (4.0 + 0.25) / 2]
    assert Loss(exits="last").of_logits(values, labels).tolist() == [1.0, 0.25]


def right_and_wrong(*rows):
    """Logits (E, B, 2) and labels (B,) of samples that are right (1) or wrong (0) at each exit."""
    right = torch.tensor(rows).T
    labels = torch.arange(len(rows)) % 2
    predicted = torch.where(right == 1, labels, 1 - labels)
    return torch.nn.functional.one_hot(predicted, 2).float(), labels


def test_exit_depth_counts_until_the_sample_stays_right_and_the_error_rate_the_wrong_exits():
    logits, labels = right_and_wrong(
        [1, 1, 1, 1],  # right from the start
        [0, 1, 1, 1],
        [0, 0, 0, 1],
        [1, 0, 1, 1],  # right, wrong, right: it stays right from exit 2
        [1, 1, 1, 0],  # wrong at last: as if never right
        [0, 0, 0, 0],
    )
    assert ExitDepth().of_logits(logits, labels).tolist() == [0.0, 1.0, 3.0, 2.0, 4.0, 4.0]
    assert ExitErrorRate().of_logits(logits, labels).tolist() == [0.0, 0.25, 0.75, 0.25, 0.25, 1.0]


@pytest.mark.parametrize("measure", [Loss(), Loss("last"), Margin(), Margin("last"), ExitDepth(), ExitErrorRate()])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits_give_finite_scores_and_a_wrong_sample_scores_harder(measure, size):
    logits = torch.zeros(3, 2, 3)
    logits[:, 0, 0] = abs(size)  # right, at every exit
    logits[:, 1, 0] = size  # wrong: class 0 is far too likely, or class 2, the right one, no likelier than class 1
    logits[:, 1, 1] = abs(size) if size < 0 else 0.0
    scores = measure.of_logits(logits, torch.tensor([0, 2]))
    assert scores.isfinite().all()
    assert scores[1] > scores[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scores_of_half_precision_logits_are_computed_in_single(dtype):
    logits = torch.tensor([[[3.0, 1.0, -2.0]], [[1.0, 2.0, 0.5]]], dtype=dtype)
    for measure in (Loss(), Margin()):
        half, single = measure.of_logits(logits, LABELS[:1]), measure.of_logits(logits.float(), LABELS[:1])
        assert half.dtype == torch.float32
        assert torch.equal(half, single)
