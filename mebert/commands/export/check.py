"""Whether an exported folder answers as PyTorch does: token ids, logits, exits, and the metric of labelled rows.

Shapes: N rows, C classes, E exits.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from mebert.data.loaders import open_split
from mebert.data.model_rows import run_data
from mebert.data.tokenizers import encode_texts
from mebert.errors import UserError
from mebert.metrics.task import metric_value
from mebert.models.multi_exit import MultiExitModel
from mebert.onnx.export import Source
from mebert.onnx.runner import OnnxClassifier, Windows
from mebert.onnx.single_graph import SingleGraph
from mebert.storage.run_folder import RunFolder
from mebert.storage.thresholds import Threshold, threshold_at

TEXTS = [
    *("A fine film.", "", "  two  spaces ", "Ünïcode — naïve café", "数 据", "[SEP] typed [MASK] </s> <pad>"),
    *("It was not good, not bad, but long " * 40, "a", "1,234.50 €", "CAPITALS and lower"),
]
TOLERANCE = 1e-4  # of logits in float32

Way = OnnxClassifier | SingleGraph
"""What runs an export: the graphs of the exits in turn, or all in one."""


@dataclass
class Rows:
    """Windows of N rows, their labels (-1 or NaN: none), the task's main metric, and what they are."""

    encoded: list[Windows]
    labels: torch.Tensor
    metric: str
    name: str


@dataclass
class Compared:
    """What was found.

    Attributes:
        rows: How many.
        name: Which.
        difference: The largest between logits, of the exit taken and of the last one.
        other_exits: Rows that leave at another exit, by more than rounding at the threshold.
        metric: Name of the task's metric; None where no row has a label.
        values: The metric of PyTorch and of the export, at the operating point and at full depth.
    """

    rows: int
    name: str
    difference: float
    other_exits: int
    metric: str | None = None
    values: tuple[tuple[float, float], ...] = ()

    @property
    def drop(self) -> float:
        """The largest loss of the metric; 0 where it is not known."""
        return max((before - after for before, after in self.values), default=0.0)


def check_tokens(source: Source, classify: OnnxClassifier) -> None:
    """Refuse an export whose token ids are not those of the model's tokenizer."""
    for texts in (TEXTS, list(zip(TEXTS, reversed(TEXTS), strict=True))):
        columns = [TEXTS] if texts is TEXTS else [TEXTS, TEXTS[::-1]]
        for length in {source.max_length, 8 if source.spec.stride is None else source.max_length}:
            wanted = encode_texts(source.tokenizer, columns, length, source.spec.stride)["input_ids"]
            found = classify.encode(texts, length)
            if [[token for ids, _ in windows for token in ids] for windows in found] != wanted:
                raise UserError(
                    "export: the tokenizer gives other token ids without transformers; it cannot be exported"
                )


def rows_of(folder: str, source: Source, most: int) -> Rows:
    """Validation rows of the run that trained a model; some short texts where it has none."""
    if not Path(folder).is_dir() or not RunFolder.of_model(folder).config.is_file():
        found = encode_texts(source.tokenizer, [TEXTS], source.max_length, source.spec.stride)
        kinds = found.get("token_type_ids") or [[0] * len(row) for row in found["input_ids"]]
        encoded = [_windows(source, *row) for row in zip(found["input_ids"], kinds, strict=True)]
        return Rows(encoded, torch.full((len(encoded),), -1), "acc", "made-up texts, as it belongs to no run")
    data = run_data(folder, source.model)
    split = open_split(data, "val")
    encoded = []
    for begin, end in itertools.pairwise(split.offsets[: most + 1].tolist()):
        kind = [0] * (end - begin) if split.token_types is None else split.token_types[begin:end].tolist()
        encoded.append(_windows(source, split.tokens[begin:end].tolist(), kind))
    labels = torch.full((len(encoded),), -1) if split.labels is None else torch.from_numpy(split.labels[: len(encoded)])
    return Rows(encoded, labels, str(getattr(data, "metrics", ["acc"])[0]), "the run's validation rows")


def _windows(source: Source, ids: list[int], kinds: list[int]) -> Windows:
    """A row's tokens, cut into the windows that stand in it side by side."""
    step = source.max_length if source.spec.stride is not None else max(1, len(ids))
    return [(ids[i : i + step], kinds[i : i + step]) for i in range(0, len(ids), step)]


def compare(source: Source, ways: Sequence[Way], rows: Rows) -> list[Compared]:
    """PyTorch in float32 and each way to run the export, at the policy's threshold and at full depth."""
    answers = _with_torch(source, rows)
    return [_compared(way, rows, source.policy.threshold, *answers) for way in ways]


def _compared(way: Way, rows: Rows, threshold: Threshold, theirs: torch.Tensor, scores: torch.Tensor) -> Compared:
    known = rows.labels >= 0 if rows.labels.dtype == torch.int64 else ~rows.labels.isnan()
    known = known if known.dim() == 1 else known.all(-1)  # several labels a row
    difference, other, values = 0.0, 0, []
    for limit in (threshold, 0.0):
        column = torch.tensor([threshold_at(limit, index) for index in range(len(scores) - 1)] + [0.0]).unsqueeze(1)
        leaving = scores < column
        leaving[-1] = True
        exits = leaving.int().argmax(0)
        wanted = theirs[exits, torch.arange(len(exits))]
        logits, taken = _with_onnx(way, rows, limit)
        near = ((scores - column).abs() < TOLERANCE)[:-1].any(0)
        other += int(((taken != exits) & ~near).sum())
        same = taken == exits
        difference = max(difference, float((logits - wanted)[same].abs().max()) if bool(same.any()) else 0.0)
        if bool(known.any()):
            pair = (metric_value(rows.metric, found[known], rows.labels[known]) for found in (wanted, logits))
            values.append((next(pair), next(pair)))
    return Compared(len(rows.encoded), rows.name, difference, other, rows.metric if values else None, tuple(values))


@torch.no_grad()
def _with_torch(source: Source, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Comparable logits (E, N, C) and scores (E, N) of all exits."""
    model: MultiExitModel = source.model
    logits, scores = [], []
    for windows in rows.encoded:  # text by text, so that nothing depends on other texts
        ids = pad_sequence([torch.tensor(ids) for ids, _ in windows], batch_first=True)
        mask = pad_sequence([torch.ones(len(ids), dtype=torch.int64) for ids, _ in windows], batch_first=True)
        batch = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in source.tokenizer.model_input_names:
            batch["token_type_ids"] = pad_sequence([torch.tensor(kinds) for _, kinds in windows], batch_first=True)
        if len(windows) > 1:
            batch = {name: values.unsqueeze(0) for name, values in batch.items()}
        found = model(**batch)
        scores.append(source.policy.score_exits(found.logits, found.features, batch["attention_mask"].flatten(1)))
        exits = torch.arange(model.num_exits)
        answers = source.policy.answers(found.logits)
        logits.append(model.comparable((found.logits if answers is None else answers)[:, 0], exits))
    return torch.stack(logits, dim=1), torch.cat(scores, dim=1)


def _with_onnx(way: Way, rows: Rows, threshold: Threshold) -> tuple[torch.Tensor, torch.Tensor]:
    order = sorted(range(len(rows.encoded)), key=lambda row: len(rows.encoded[row][0][0]))
    logits, exits = [], []
    for start in range(0, len(order), 32):
        found = way.run([rows.encoded[row] for row in order[start : start + 32]], threshold)
        logits.append(torch.from_numpy(found[0]))
        exits.append(torch.from_numpy(found[1]))
    back = torch.tensor(order).argsort()
    return torch.cat(logits)[back], torch.cat(exits)[back]
