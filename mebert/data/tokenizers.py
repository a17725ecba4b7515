"""Tokenizers: how one is loaded with its settings, and how texts become token ids, the same way for every caller.

Shapes: N rows, T tokens of all rows together.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import transformers

from mebert.errors import UserError, brief
from mebert.runtime.messages import rank_zero_info
from mebert.storage.hub import hub_errors
from mebert.storage.model_folder import saved_model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_LENGTH = 128
"""Tokens to which texts are cut where neither the user nor a trained model says another number."""

TRUNCATION = "longest_first"  # of a pair the longer text is cut first
NOT_IDS = ("name_or_path", "vocab_file", "chat_template", "verbose")  # attributes that change no token id

_unsplit_of: WeakKeyDictionary[PreTrainedTokenizerBase, re.Pattern[str] | None] = WeakKeyDictionary()
_encoding = Lock()  # truncation is a state of the tokenizer that transformers sets anew in every call


def _renew_lock() -> None:
    global _encoding
    _encoding = Lock()


if hasattr(os, "register_at_fork"):  # a process that is forked while another thread encodes would wait for ever
    os.register_at_fork(after_in_child=_renew_lock)


def load_tokenizer(
    name: str,
    do_lower_case: bool | None = None,
    truncation_side: str | None = None,
    split_special_tokens: bool | None = None,
) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a Hub id or folder; what is set here is saved with it, and so belongs to the model.

    Args:
        name: Hub id or folder.
        do_lower_case: Whether texts are lower-cased; None: as the tokenizer's files say.
        truncation_side: Where long texts are cut, `right` or `left`; None: as the files say.
        split_special_tokens: Whether a special token that is typed in a text (`[SEP]`) is ordinary text; None: as the
            files say, else yes, but no for a model that mebert has saved without it (0.1.0 read it as the token).

    Raises:
        UserError: There is no such tokenizer, or it has no such setting.
    """
    from transformers import AutoTokenizer

    import mebert.storage.elasticbert  # noqa: F401  (a type of model that transformers does not know)

    given: dict[str, Any] = {"do_lower_case": do_lower_case, "truncation_side": truncation_side}
    given["split_special_tokens"] = split_special_tokens
    given = {key: value for key, value in given.items() if value is not None}
    with hub_errors(f"the tokenizer {name!r}"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **given)
        longest: object = tokenizer.model_max_length
        if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 1:
            raise UserError(f"{name}/tokenizer_config.json: model_max_length must be at least 1, got {brief(longest)}")
        encode_texts(tokenizer, [["a text"], ["and another"]], 16)  # a wrong value shows at the first text only
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # made of config.json alone, where its own files are missing
        raise UserError(f"cannot load the tokenizer {name!r}: there are no files of one; fetch or save them there")
    if do_lower_case is not None and lower_cases(tokenizer) != do_lower_case:
        kind = type(tokenizer).__name__
        raise UserError(f"do_lower_case {do_lower_case} has no effect on the tokenizer {name!r} ({kind}); leave it out")
    if "split_special_tokens" not in tokenizer.init_kwargs and saved_model_folder(name) is None:
        split_in_texts(tokenizer)
    return tokenizer


def split_in_texts(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Read special tokens that are typed in a text as ordinary text, and save that with the tokenizer."""
    tokenizer.split_special_tokens = tokenizer.init_kwargs["split_special_tokens"] = True
    named = {str(token) for token in tokenizer.special_tokens_map.values() if isinstance(token, str)}
    if more := [token for token in tokenizer.all_special_tokens if token not in named]:
        rank_zero_info(
            f"the tokenizer's further special tokens ({', '.join(more[:3])}{', ...' * (len(more) > 3)}) are ordinary "
            "text where they are typed in a text; --data.split_special_tokens false reads them as tokens"
        )
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str, max_length: int) -> None:
    """Raise a UserError for a tokenizer that cannot make the batches asked for."""
    if tokenizer.pad_token_id is None:
        raise UserError(f"the tokenizer {name!r} has no padding token; choose that of a BERT-like encoder")
    if max_length > (limit := tokenizer.model_max_length):
        raise UserError(f"max_length is {max_length} tokens, but the tokenizer {name!r} allows {limit}")


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    """Raise a UserError where a token's id is none of the encoder's `size` embeddings."""
    token, largest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if largest >= size:
        raise UserError(
            f"the tokenizer has {largest + 1} tokens (the last one: {brief(token)}), but the encoder's vocabulary has "
            f"{size}; use the encoder's own tokenizer (data.tokenizer) or set encoder_config.vocab_size"
        )


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, columns: Sequence[Sequence[str]], max_length: int, stride: int | None = None
) -> dict[str, list[list[int]]]:
    """Token ids (and segment ids, of a tokenizer that has them) of one or two columns of N texts, unpadded.

    With a `stride` a longer text is not cut but gives its windows one after the other: each of `max_length` tokens, but
    for the last, with its own special tokens and the last `stride` tokens of the one before (transformers' meaning of
    `stride`). Of a pair the first text stands whole in each window, and the second one is cut into windows.

    Threads may share the tokenizer, each with a length of its own.

    Raises:
        UserError: There is no room for windows with this stride.
    """
    with _encoding:
        unsplit = _unsplit(tokenizer) if tokenizer.split_special_tokens else None
        if unsplit is not None:
            columns = [[unsplit.sub(lambda m: f"{m[0][0]} {m[0][1:]}", text) for text in texts] for texts in columns]
        options = {"truncation": TRUNCATION, "max_length": max_length, "padding": False, "return_attention_mask": False}
        if stride is None:
            return dict(tokenizer(*map(list, columns), **options))
        _check_room(tokenizer, columns, max_length, stride)
        if len(columns) == 2:
            options["truncation"] = "only_second"
        found = dict(tokenizer(*map(list, columns), **options, stride=stride, return_overflowing_tokens=True))
        text_of = found.pop("overflow_to_sample_mapping")
        rows: dict[str, list[list[int]]] = {name: [[] for _ in columns[0]] for name in found}
        for name, windows in found.items():
            for text, window in zip(text_of, windows, strict=True):
                rows[name][text] += window
        return rows


def _check_room(
    tokenizer: PreTrainedTokenizerBase, columns: Sequence[Sequence[str]], max_length: int, stride: int
) -> None:
    """Raise a UserError where windows of `max_length` tokens have no room for more than `stride` repeated ones."""
    if not tokenizer.is_fast:
        kind = type(tokenizer).__name__
        raise UserError(f"stride is {stride}, but the tokenizer ({kind}) cannot make windows: it is not a fast one")
    room = max_length - tokenizer.num_special_tokens_to_add(pair=len(columns) == 2)
    if stride >= room:
        raise UserError(f"stride must be below {room}, the tokens of a text in {max_length} (max_length); got {stride}")
    if len(columns) == 1 or not columns[0]:
        return

    def tokens(texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    for row, first in enumerate(tokens(columns[0])):
        # Where both fit into one input, nothing is cut into windows.
        if stride >= room - len(first) and len(first) + len(tokens([columns[1][row]])[0]) > room:
            raise UserError(
                f"the first text of a pair ({brief(columns[0][row])}) has {len(first)} tokens and leaves no room for "
                f"windows of the second (max_length {max_length}, stride {stride}): give the longer text as the second "
                "one, or raise max_length"
            )


def tell_unknown_length(name: str, used: int) -> None:
    """Say at what length texts are read by a model that was saved without that of its training."""
    rank_zero_info(
        f"{name} was saved without the length of its training texts: longer ones are cut at {used} tokens here; give "
        "max_length if the model was trained at another"
    )


def unsplit_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The special tokens that a tokenizer gives for the same text although it is told to split them.

    A Unigram model (XLM-RoBERTa, ALBERT) has them among its pieces; a space within makes other pieces of them.
    """
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    read = {token: tokenizer(token, add_special_tokens=False)["input_ids"] for token in ids}
    return [token for token, own in ids.items() if len(token) > 1 and own in read[token]]


def _unsplit(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    if tokenizer not in _unsplit_of:
        found = [re.escape(token) for token in unsplit_tokens(tokenizer)]
        _unsplit_of[tokenizer] = re.compile("|".join(found)) if found else None
    return _unsplit_of[tokenizer]


def lower_cases(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer lower-cases texts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return bool(getattr(tokenizer, "do_lower_case", False))
    return backend.normalizer is not None and "A" not in backend.normalizer.normalize_str("A")


def settings_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What a model that was trained with this tokenizer needs of any other: its vocabulary (a digest) and settings."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return {
        "do_lower_case": lower_cases(tokenizer),
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": tokenizer.split_special_tokens,
        "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest()[:32],
    }


def stored_settings(texts: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments of `load_tokenizer` from what a checkpoint stores of its texts; None: one of mebert 0.1.0."""
    if texts is None:
        return {"split_special_tokens": False}
    return {name: texts[name] for name in ("do_lower_case", "truncation_side", "split_special_tokens")}


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of all that decides the token ids of a text but its length limit.

    `datasets` would hash the tokenizer object, whose state changes with its first use, and miss the cache later. Every
    plain attribute counts, whether it is known to matter or not: one that does not costs a second tokenisation at most.
    """
    import tokenizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        state = json.loads(backend.to_str())
        state = {name: value for name, value in state.items() if name not in ("truncation", "padding")}
    else:
        own = {name: repr(value) for name, value in tokenizer.init_kwargs.items() if name not in NOT_IDS}
        state = {"vocab": tokenizer.get_vocab(), "added": repr(tokenizer.added_tokens_decoder), "init": own}
    plain = str | int | float | bool | None
    attributes = {k: v for k, v in vars(tokenizer).items() if isinstance(v, plain) and k not in NOT_IDS}
    versions = [transformers.__version__, tokenizers.__version__]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    settings = [type(tokenizer).__name__, TRUNCATION, tokenizer.model_input_names, versions, attributes, special, state]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def saved_in(folder: str | Path) -> bool:
    """Whether a folder has a tokenizer's files."""
    return (Path(folder) / "tokenizer_config.json").is_file()
