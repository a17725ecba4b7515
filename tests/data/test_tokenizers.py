"""Settings of tokenizers: what changes token ids changes the cache's key; what is set at loading is saved."""

import contextlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import transformers
from tiny import save_tokenizer
from tokenizers import normalizers, pre_tokenizers, processors
from transformers import AutoConfig, BertTokenizer, RobertaTokenizer, XLMRobertaTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from mebert.data.datamodule import TextDataModule
from mebert.data.tokenizers import encode_texts, load_tokenizer, settings_of, tokenizer_key
from mebert.errors import UserError

WORDS = [
    "a",
    "A",
    "cat",
    "Cat",
    "cafe",
    "café",
    "##s",
    "##S",
    "[",
    "]",
    "se",
    "##p",
    "SE",
    "##P",
    "人",
    "不",
    "unk",
    "<",
    ">",
]
SPECIAL = ["[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = ["[PAD]", "[UNK]", *SPECIAL, *WORDS]
TEXTS = [
    "a Cat",
    "cats café 人不",
    "Cat [SEP] cats [MASK]",
    "A a cat a Cat cats a",
    "<new> cat  Cats",
    "[ SEP ]",
    "   ",
    "cat </s> a",
]
PAIRS = [*reversed(TEXTS)]


def ids_of(tokenizer, max_length=8):
    """Token and segment ids of single texts and of pairs."""
    return encode_texts(tokenizer, [TEXTS], max_length), encode_texts(tokenizer, [TEXTS, PAIRS], max_length)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Ways to make a tokenizer: WordPiece, BPE and Unigram of the `tokenizers` library, and one in Python."""
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY), encoding="utf-8")
    letters = dict.fromkeys("abcdefghijklmnopqrstuvwxyzACS[]<>Ġ")
    special = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])}
    pieces = [*((token, 0.0) for token in special), *((letter, -2.0) for letter in [*letters, "▁"]), ("▁cat", -1.0)]
    vocab = special | {letter: len(special) + i for i, letter in enumerate([*letters, "ca", "cat"])}
    return {
        "wordpiece": lambda **given: BertTokenizer(vocab={w: i for i, w in enumerate(VOCABULARY)}, **given),
        "bpe": lambda **given: RobertaTokenizer(vocab=vocab, merges=[("c", "a"), ("ca", "t")], **given),
        "unigram": lambda **given: XLMRobertaTokenizer(vocab=pieces, **given),
        "python": lambda **given: BertTokenizerLegacy(vocab_file=str(folder / "vocab.txt"), **given),
    }


# Every setting that a tokenizer of transformers takes (__init__ of the classes above and of their base classes).
SETTINGS = [
    {"do_lower_case": False},
    {"strip_accents": False},
    {"strip_accents": True},
    {"tokenize_chinese_chars": False},
    {"do_basic_tokenize": False},
    {"never_split": ["cats"]},
    {"truncation_side": "left"},
    {"padding_side": "left"},
    {"split_special_tokens": True},
    {"model_max_length": 6},
    {"add_prefix_space": True},
    {"trim_offsets": False},
    {"extra_special_tokens": ["<new>"]},
    {"sep_token": "[MASK]"},
    {"cls_token": "[PAD]"},
    {"unk_token": "[MASK]"},
    {"mask_token": "cat"},
    {"pad_token": "cat"},
    {"bos_token": "cat"},
    {"eos_token": "cat"},
    {"model_input_names": ["input_ids"]},
    {"clean_up_tokenization_spaces": True},
    {"stride": 1},
    {"max_length": 4},
    {"tokenizer_truncation": {"max_length": 4, "stride": 1, "strategy": "only_first", "direction": "left"}},
    {"add_bos_token": True},
    {"add_eos_token": True},
]


def changed_later(tokenizer):
    """Ways in which a tokenizer can be changed after it was made."""
    return {
        "attributes": [
            ("truncation_side", "left"),
            ("split_special_tokens", True),
            ("do_lower_case", False),
            ("cls_token", tokenizer.mask_token),
            ("sep_token", tokenizer.mask_token),
            ("unk_token", tokenizer.mask_token),
            ("model_input_names", ["input_ids"]),
        ],
        "backend": [
            ("normalizer", normalizers.Lowercase()),
            ("normalizer", normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
            ("pre_tokenizer", pre_tokenizers.CharDelimiterSplit("a")),
            ("post_processor", processors.ByteLevel()),
        ],
    }


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "python"])
def test_whatever_changes_ids_changes_the_key(kind, kinds):
    plain = kinds[kind]()
    ids, key = ids_of(plain), tokenizer_key(plain)
    assert tokenizer_key(plain) == key, "its use does not change it"
    assert tokenizer_key(kinds[kind]()) == key
    found = {}
    for given in SETTINGS:
        try:
            found[str(given)] = kinds[kind](**given)
        except (TypeError, ValueError, AttributeError, KeyError):
            continue  # not a setting of this kind
    later = changed_later(plain)
    for name, value in later["attributes"]:
        found[f"{name} later"] = kinds[kind]()
        with contextlib.suppress(AttributeError):  # it cannot be set later
            setattr(found[f"{name} later"], name, value)
    for place, (name, value) in enumerate(later["backend"] if kind != "python" else []):
        found[f"{name} {place}"] = kinds[kind]()
        setattr(found[f"{name} {place}"].backend_tokenizer, name, value)
    for name, special in (("added", False), ("added special", True)):
        found[name] = kinds[kind]()
        found[name].add_tokens(["<new>"], special_tokens=special)
    changing = {name for name, tokenizer in found.items() if ids_of(tokenizer) != ids}
    assert {name for name in changing if tokenizer_key(found[name]) == key} == set()
    assert {"{'truncation_side': 'left'}", "{'split_special_tokens': True}", "added"} <= changing


@pytest.mark.parametrize(
    "setting", [{"truncation_side": "left"}, {"do_lower_case": False}, {"split_special_tokens": False}]
)
def test_other_settings_do_not_read_the_cache_of_these(setting, write, hf_cache, tmp_path):
    path, folder = write("rows.csv", [{"text": text, "label": i % 2} for i, text in enumerate(TEXTS[:6])]), tmp_path
    save_tokenizer(folder / "tokenizer", WORDS)

    def tokens(**given):
        data = TextDataModule(
            train_file=path, validation_file=path, tokenizer=str(folder / "tokenizer"), max_length=8, **given
        )
        data.setup("fit")
        return data.split("train").tokens.tolist()

    before = tokens()
    direct = load_tokenizer(str(folder / "tokenizer"), **setting)
    wanted = direct(TEXTS[:6], truncation=True, max_length=8)["input_ids"]
    assert tokens(**setting) == [number for row in wanted for number in row]
    assert tokens(**setting) != before
    assert len(list((hf_cache / "mebert").glob("tokens-*.arrow"))) == 2


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="it can be read")
def test_a_tokenizer_that_is_a_sentencepiece_file_alone_says_what_to_install(tmp_path):
    """DeBERTa-v3's on the Hub."""
    AutoConfig.for_model("deberta-v2").save_pretrained(tmp_path)
    (tmp_path / "spm.model").write_bytes(b"\n\x0b\n\x04<pad>\x15\0\0\0\0")
    with pytest.raises(UserError, match=r": reading its SentencePiece file .*: pip install sentencepiece protobuf$"):
        load_tokenizer(str(tmp_path))


FAMILIES = ["Bert", "Electra", "DistilBert", "MPNet", "Albert", "Roberta", "XLMRoberta", "DebertaV2"]
UNIGRAM = ("XLMRoberta", "Albert", "DebertaV2")


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_are_saved_with_the_tokenizer_or_refused(family, kinds, tmp_path):
    cls = getattr(transformers, f"{family}Tokenizer")
    like = {"Roberta": "bpe", "XLMRoberta": "unigram", "Albert": "unigram", "DebertaV2": "unigram"}.get(
        family, "wordpiece"
    )
    vocab = kinds[like]().get_vocab()
    if like == "unigram":
        special = {"Albert": ["<pad>", "<unk>", *SPECIAL], "DebertaV2": ["[PAD]", "[UNK]", *SPECIAL]}.get(family, [])
        vocab = [(piece, -1.0) for piece in dict.fromkeys([*special, *vocab])]
    more = {"merges": [("c", "a"), ("ca", "t")]} if like == "bpe" else {}
    cls(vocab=vocab, **more).save_pretrained(tmp_path / "plain")
    for given in (
        {"truncation_side": "left"},
        {"split_special_tokens": False},
        {"do_lower_case": False},
        {"do_lower_case": True},
        {"do_lower_case": False, "truncation_side": "left", "split_special_tokens": True},
    ):
        if family in ("Roberta", "XLMRoberta") and given.get("do_lower_case"):
            with pytest.raises(UserError, match="do_lower_case True has no effect on the tokenizer"):
                load_tokenizer(str(tmp_path / "plain"), **given)
            continue
        loaded = load_tokenizer(str(tmp_path / "plain"), **given)
        assert settings_of(loaded).items() >= ({"split_special_tokens": True} | given).items()
        loaded.save_pretrained(tmp_path / "saved")
        again = load_tokenizer(str(tmp_path / "saved"))
        assert ids_of(again) == ids_of(loaded)
        assert settings_of(again) == settings_of(loaded)
        for token in loaded.all_special_tokens:
            (plain,), (typed,) = (encode_texts(loaded, [[text]], 16)["input_ids"] for text in ("a", f"a {token}"))
            number = loaded.convert_tokens_to_ids(token)
            if number != loaded.unk_token_id:
                assert typed.count(number) - plain.count(number) == (0 if loaded.split_special_tokens else 1)


def test_threads_share_a_tokenizer(kinds):
    """Each thread has its length, and gets what transformers gives without threads."""
    tokenizer = kinds["wordpiece"](model_max_length=64)
    texts = [" ".join(WORDS[(i + k) % 5] for k in range(40)) for i in range(20)]
    wanted = {n: kinds["wordpiece"]()(texts, truncation=True, max_length=n)["input_ids"] for n in range(4, 44)}
    ready = threading.Barrier(4)

    def work(first):
        ready.wait()
        return [
            n
            for n in range(first, 44, 4)
            for _ in range(8)
            if encode_texts(tokenizer, [texts], n)["input_ids"] != wanted[n]
        ]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert [wrong for part in pool.map(work, range(4, 8)) for wrong in part] == []
    finally:
        sys.setswitchinterval(before)


def test_further_special_tokens_are_told(tmp_path, capsys, caplog):
    tokenizer = BertTokenizer(
        vocab={w: i for i, w in enumerate([*VOCABULARY, "<new>"])}, extra_special_tokens=["<new>"]
    )
    tokenizer.save_pretrained(tmp_path / "marked")
    with caplog.at_level("INFO"):
        load_tokenizer(str(tmp_path / "marked"))
    assert "<new>" in caplog.text + capsys.readouterr().err
    assert "--data.split_special_tokens false" in caplog.text
