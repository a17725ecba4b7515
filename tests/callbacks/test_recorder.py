"""The record of a pass: order, padding, repeated rows, scores."""

from types import SimpleNamespace

import torch

from mebert.callbacks.recorder import ExitRecorder
from mebert.policies import Entropy, MaxProbability, normalised_entropy

ALONE = SimpleNamespace(trainer=SimpleNamespace(world_size=1), model=SimpleNamespace(temperatures=None))


def record_of(index, batches=2):
    torch.manual_seed(0)
    n = len(index)
    logits, features = torch.randn(3, n, 2), torch.randn(3, n, 4)
    by_row = torch.tensor([i if i >= 0 else 99 for i in index])
    recorder = ExitRecorder()
    for rows in torch.arange(n).chunk(batches):
        outputs = {
            "logits": logits[:, rows],
            "features": features[:, rows],
            "labels": by_row[rows] % 2,
            "index": torch.tensor(index)[rows],
        }
        batch = {"attention_mask": torch.ones(len(rows), 5, dtype=torch.long), "difficulty": by_row[rows]}
        batch["query"] = by_row[rows] // 2
        recorder.update(outputs, batch, {"entropy": Entropy(), "max_prob": MaxProbability()})
    return recorder.gather(ALONE), logits


def test_rows_come_in_the_order_of_the_split_without_padding():
    record, logits = record_of([3, 0, 2, -1, 1, -1])
    assert record.index.tolist() == [0, 1, 2, 3]
    assert record.difficulty.tolist() == [0, 1, 2, 3]
    assert record.queries.tolist() == [0, 0, 1, 1]
    assert record.labels.tolist() == [0, 1, 0, 1]
    assert torch.equal(record.logits, logits[:, [1, 4, 2, 0]])
    assert torch.equal(record.scores["entropy"], normalised_entropy(record.logits))
    assert record.scores["max_prob"].shape == (3, 4)
    assert record.lengths.tolist() == [5] * 4


def test_repeated_rows_count_once():
    record, _ = record_of([0, 1, 2, 0])
    assert record.index.tolist() == [0, 1, 2]


def test_without_labels_there_is_no_record():
    recorder = ExitRecorder()
    recorder.update({"logits": torch.zeros(1, 2, 2), "labels": None}, {}, {})
    assert recorder.gather(ALONE) is None
