"""`stride`: a long text becomes overlapping windows, as transformers' tokenizers cut them, however it is read."""

from __future__ import annotations

import pytest
import torch
from runs import write_rows
from tiny import words_tokenizer

from mebert.data import TextDataModule
from mebert.data.tokenizers import encode_texts
from mebert.errors import UserError

TEXTS = [" ".join(f"w{(i + k) % 40}" for k in range(n)) for i, n in enumerate((3, 30, 6, 7, 14, 1))]


def words(ids):
    return [f"w{i - 5}" for i in ids]


def cut(text, size, stride):
    """Windows of at most `size` words that overlap by `stride`, by hand."""
    all_words, found = text.split(), []
    for start in range(0, len(all_words), size - stride):
        found.append(all_words[start : start + size])
        if start + size >= len(all_words):
            break
    return found


@pytest.mark.parametrize("stride", [0, 2, 5])
def test_windows_overlap_by_the_stride(stride):
    for text, row in zip(TEXTS, encode_texts(words_tokenizer(), [TEXTS], 8, stride)["input_ids"], strict=True):
        windows = [row[at : at + 8] for at in range(0, len(row), 8)]
        assert all(len(window) == 8 for window in windows[:-1])
        assert all(window[0] == 2 and window[-1] == 3 for window in windows)
        assert [words(window[1:-1]) for window in windows] == cut(text, 6, stride)


def test_without_overlong_texts_tokens_are_those_of_truncation():
    short = [text for text in TEXTS if len(text.split()) <= 6]
    assert encode_texts(words_tokenizer(), [short], 8, 2) == encode_texts(words_tokenizer(), [short], 8)


def test_windows_from_the_end_are_full_but_for_the_last():
    tokenizer = words_tokenizer()
    tokenizer.truncation_side = "left"
    (row,) = encode_texts(tokenizer, [["w1 w2 w3 w4 w5"]], 5, 1)["input_ids"]
    assert words(row[1:4]) == ["w3", "w4", "w5"]
    assert words(row[5:][1:-1]) == ["w1", "w2", "w3"]


def test_of_a_pair_the_second_text_is_cut_and_the_first_stays():
    encoded = encode_texts(words_tokenizer(), [["w1 w2"] * 2, ["w9", TEXTS[1]]], 10, 1)
    assert words(encoded["input_ids"][0][1:3]) == ["w1", "w2"]
    assert len(encoded["input_ids"][0]) == 6
    row, types = (encoded[name][1] for name in ("input_ids", "token_type_ids"))
    windows = [row[at : at + 10] for at in range(0, len(row), 10)]
    assert all(words(window[1:3]) == ["w1", "w2"] for window in windows)
    assert [words(window[4:-1]) for window in windows] == cut(TEXTS[1], 5, 1)
    assert types[10:20] == [0] * 4 + [1] * 6


@pytest.mark.parametrize(
    ("columns", "stride", "message"),
    [
        ([TEXTS], 6, r"stride must be below 6, the tokens of a text in 8 .max_length.; got 6"),
        (
            [["w1 w2 w3"], [TEXTS[1]]],
            2,
            r"first text of a pair \('w1 w2 w3'\) has 3 tokens and leaves no room .*stride 2",
        ),
        ([[TEXTS[1]], ["w1"]], 2, "has 30 tokens and leaves no room .*give the longer text as the second one"),
    ],
)
def test_no_room_for_windows_is_an_error(columns, stride, message):
    with pytest.raises(UserError, match=message):
        encode_texts(words_tokenizer(), columns, 8, stride)


def test_a_slow_tokenizer_is_refused(monkeypatch):
    tokenizer = words_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda self: False))
    with pytest.raises(UserError, match=r"stride is 2, but the tokenizer .* is not a fast one"):
        encode_texts(tokenizer, [TEXTS], 8, 2)


def test_stride_must_be_below_max_length():
    with pytest.raises(UserError, match="stride"):
        TextDataModule(train_file="x.csv", labels=["a", "b"], max_length=16, stride=16)


class Words(TextDataModule):
    def build_tokenizer(self):
        return words_tokenizer()


def test_streamed_and_loaded_batches_have_the_same_windows(tmp_path, hf_cache):
    path = write_rows(tmp_path / "texts.csv", [{"text": text} for text in TEXTS])
    found = []
    for streaming in (False, True):
        data = Words(predict_file=path, labels=["a", "b"], streaming=streaming, max_length=8, stride=2, batch_size=3)
        data.setup("predict")
        assert data.text_settings["stride"] == 2
        batches = list(data.predict_dataloader())
        assert batches[0]["input_ids"].dim() == 3
        assert batches[1]["input_ids"].dim() == 2  # the shorter ones: no windows
        found.append({int(i): row[mask > 0] for b in batches for i, row, mask in rows_of(b)})
    wanted = encode_texts(words_tokenizer(), [TEXTS], 8, 2)["input_ids"]
    assert [found[0][i].tolist() for i in range(len(TEXTS))] == wanted
    assert all(torch.equal(found[0][i], found[1][i]) for i in found[0])


def rows_of(batch):
    return zip(batch["index"], batch["input_ids"].flatten(1), batch["attention_mask"].flatten(1), strict=True)
