"""The inputs: a task, own texts, or random tokens; and their batches.

Shapes: N samples, B batch, S tokens of the longest row in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from mebert.commands.bench.bench_model import BenchModel
from mebert.commands.bench.command import BenchSettings
from mebert.data.found_columns import find_texts
from mebert.data.loaders import open_split
from mebert.data.model_rows import run_data
from mebert.data.text_lines import text_lines
from mebert.data.text_splits import TextSplits
from mebert.data.tokenised import TokenisedSplit, collate
from mebert.data.tokenizers import encode_texts, load_tokenizer
from mebert.errors import UserError
from mebert.inference import plan_batches
from mebert.models import model_inputs
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import RunFolder

QUANTILES = (0.0, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0)

# Tokens at those quantiles, [CLS] and [SEP] included, counted with the tokenizer of all-MiniLM-L6-v2 (the vocabulary
# of bert-base-uncased) on the validation split (ag_news, imdb: test split), at most 3000 rows, nothing cut.
LENGTHS = {
    "sst2": (4, 10, 12, 17, 24.5, 32, 40, 44, 51, 55),
    "snli": (11, 17, 18, 22, 26, 32, 38, 42, 52, 89),
    "mnli": (6, 15, 18, 26, 36, 49, 62, 72, 103, 237),
    "mrpc": (26, 32, 37, 44, 53, 63, 70, 74, 81, 86),
    "ag_news": (8, 24, 28, 34, 41, 48, 56, 65, 113, 267),
    "imdb": (22, 91, 121, 161, 217, 352, 567, 754, 1170, 2875),
}
DEFAULT_LENGTHS = "snli"
SHORTEST = 3  # a word between [CLS] and [SEP]
SMALLEST_ID = 10  # below are the special tokens of most vocabularies

Batch = tuple[dict[str, Tensor], Tensor]
"""The model's inputs, each (B, S), and the rows' numbers (B,) int64 on the CPU."""


@dataclass(frozen=True)
class Texts:
    """What is measured, where it is from, and whether it is texts and not random tokens."""

    rows: TokenisedSplit
    origin: str
    real: bool = True


def draw_lengths(spec: str, samples: int, max_length: int, seed: int) -> np.ndarray:
    """Lengths in tokens (N,) int64 that follow a distribution as closely as N samples can, in random order.

    `spec` is a key of `LENGTHS`, "mean,std" for a log-normal distribution, or one number for equal lengths; a
    UserError if it is none of these. Longer lengths than `max_length` are cut, as texts would be.
    """
    generator = np.random.default_rng(seed)
    ranks = (generator.permutation(samples) + 0.5) / samples  # every quantile once, not a random sample of them
    if spec in LENGTHS:
        values = np.interp(ranks, QUANTILES, LENGTHS[spec])
    else:
        try:
            mean, std = map(float, spec.split(",") if "," in spec else (spec, "0"))
        except ValueError:  # not numbers, or more than two
            mean = std = math.nan
        if not (1 <= mean < math.inf and 0 <= std < math.inf):
            raise UserError(
                f"lengths must be one of {', '.join(LENGTHS)}, or mean and standard deviation in tokens such as 40,20, "
                f"or one length such as 128; got {spec!r}"
            )
        spread = math.sqrt(math.log1p((std / mean) ** 2))
        values = mean * np.exp(spread * ndtri(ranks) - spread**2 / 2)
    return np.clip(np.rint(values), min(SHORTEST, max_length), max_length).astype(np.int64)


def random_texts(lengths: str, samples: int, max_length: int, vocab_size: int, seed: int) -> TokenisedSplit:
    """Random tokens with the lengths of a distribution; see `draw_lengths`."""
    return _random_rows(draw_lengths(lengths, samples, max_length, seed), vocab_size, seed)


def _random_rows(counts: np.ndarray, vocab_size: int, seed: int) -> TokenisedSplit:
    offsets = np.concatenate([[0], np.cumsum(counts)])
    generator = np.random.default_rng(seed)
    tokens = generator.integers(min(SMALLEST_ID, vocab_size - 1), vocab_size, size=int(offsets[-1]))
    return TokenisedSplit(tokens, offsets, None, index=np.arange(len(counts)))


def choose_texts(settings: BenchSettings, measured: BenchModel, longest: int, tokenizer: str) -> Texts:
    """The task's or the file's texts, else those of the model's run, else random tokens.

    Raises:
        UserError: There is no such task, split, file or column.
    """
    vocabulary, n, seed = int(measured.model.adapter.config.vocab_size), settings.samples, settings.seed
    if settings.task is not None or settings.texts is not None:
        origin = f"{settings.task} {settings.split}" if settings.task else str(settings.texts)
        spec = ModelSpec.read(str(measured.tokenizer)) if measured.trained else None
        measured.model.window = None if spec is None or spec.stride is None else longest
        return Texts(_drawn(open_texts(settings, tokenizer, longest, spec), n, seed), origin)
    lengths = settings.lengths or DEFAULT_LENGTHS
    drawn = random_texts(lengths, n, longest, vocabulary, seed)
    origin = f"random tokens, lengths {lengths}"
    if not measured.trained or settings.lengths is not None:
        return Texts(drawn, origin, real=False)
    why = "the model is in no run"
    if RunFolder.of_model(str(measured.tokenizer)).config.is_file():
        try:
            rows, split = _of_the_run(settings, measured)
            return Texts(_drawn(rows, n, seed), f"the run's own, {split}")
        except UserError as error:
            why = f"the run's own are not at hand: {error}"
    if measured.last_test is not None:
        counts = measured.last_test.record.lengths.numpy().clip(1, longest)
        drawn = _random_rows(counts[_draw(len(counts), n, seed)], vocabulary, seed)
        origin = "random tokens, lengths those of the run's last test"
    return Texts(drawn, f"{origin} ({why}; --texts or --task names others)", real=False)


def _of_the_run(settings: BenchSettings, measured: BenchModel) -> tuple[TokenisedSplit, str]:
    """The rows of the run that a model folder is in, and the split's name: the first test split, else validation."""
    data = run_data(str(measured.tokenizer), measured.model, settings.max_length)
    if settings.split != "test":
        return open_split(data, settings.split), settings.split
    try:
        data.setup("test")
        name = data.test_names[0]
        return data.split(name), name
    except UserError:  # it has none
        data.setup("validate")
        name = data.validation_names[0]
        return data.split(name), name


def _draw(rows: int, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(rows)[:n] if rows > n else np.arange(rows)


def _drawn(rows: TokenisedSplit, n: int, seed: int) -> TokenisedSplit:
    """At most n of the rows, drawn by the seed, without their labels."""
    rows = rows.select(_draw(len(rows), n, seed))
    return TokenisedSplit(rows.tokens, rows.offsets, rows.token_types, np.arange(len(rows)), window=rows.window)


def open_texts(settings: BenchSettings, tokenizer: str, longest: int, spec: ModelSpec | None = None) -> TokenisedSplit:
    """Rows of the task, or of the file (.txt: one a line; .csv, .tsv, .jsonl, .parquet: by column).

    `spec` is that of a trained model, whose texts are read in its way.

    Raises:
        UserError: There is no such task, split or column, or it cannot be opened.
    """
    path, n, seed = str(settings.texts), settings.samples, settings.seed
    stride = None if spec is None else spec.stride
    if settings.task is not None:
        samples = partial(TextSplits, max_train_samples=n, max_eval_samples=n, seed=seed)
        data = samples(settings.task, tokenizer, longest, stride=stride)
        return open_split(data, settings.split)
    if Path(path).suffix.lower() == ".txt":
        return _lines(path, tokenizer, longest, stride)
    trained = () if spec is None or spec.columns is None else spec.columns.text_columns
    num_texts = None if spec is None else spec.num_texts
    first, *second = find_texts(path, trained, num_texts, settings.text_column, settings.text_pair_column)
    data = TextSplits(
        tokenizer=tokenizer,
        max_length=longest,
        stride=stride,
        predict_file=path,
        streaming=False,  # rows are drawn from all
        text_column=first,
        text_pair_column=second[0] if second else None,
        labels=["unknown", "not known"],  # a data module of files must have labels; they are not used
    )
    data.setup("predict")
    return data.split("predict")


def _lines(path: str, name: str, max_length: int, stride: int | None) -> TokenisedSplit:
    tokenizer = load_tokenizer(name)
    texts = [part.strip() for line in text_lines(path) for part in line.splitlines() if part.strip()]
    if not texts:
        raise UserError(f"{path} is empty; it must hold a text a line")
    encoded = encode_texts(tokenizer, [texts], max_length, stride)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in encoded["input_ids"]])])
    types = np.concatenate(encoded["token_type_ids"]) if "token_type_ids" in encoded else None
    tokens, window = np.concatenate(encoded["input_ids"]), None if stride is None else max_length
    return TokenisedSplit(tokens, offsets, types, index=np.arange(len(texts)), window=window)


def make_batches(
    rows: TokenisedSplit, size: int, pad_token_id: int, device: torch.device, sort: bool, pad_to: int | None = None
) -> list[Batch]:
    """All rows in batches on the device, by length (the longest first) or in their order, padded to `pad_to` tokens."""
    chosen: Sequence[np.ndarray]
    if sort:
        chosen = plan_batches(rows.lengths, max_batch=size)
    else:
        chosen = [np.arange(i, min(i + size, len(rows))) for i in range(0, len(rows), size)]
    batches = []
    for numbers in chosen:
        padded = collate([rows[int(n)] for n in numbers], pad_token_id, pad_to_multiple_of=pad_to)
        inputs = {name: value.to(device) for name, value in model_inputs(padded).items()}
        batches.append((inputs, torch.from_numpy(np.asarray(numbers, dtype=np.int64))))
    return batches
