"""Names of labels: their one spelling, those that a column uses, and whether two lists say the same.

A model owns its names and their order; data settings may repeat them, and may leave them out.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import unicodedata
from collections.abc import Iterable, MutableMapping, Sequence
from functools import lru_cache
from typing import Any

from mebert.choices import ProblemType
from mebert.errors import UserError

UNLABELLED = -1
DEFAULT_SEPARATOR = ","  # of several labels in a text, where a model was trained on lists of them

# More distinct values than this are an identifier or a number, not a class.
MAX_INFERRED_CLASSES = 1000
MOST_SHOWN = 20

WHOLE = re.compile(r"([+-]?(?:0|[1-9][0-9]{0,17}))(?:\.0*)?")  # 01 is none: zeros in front belong to a code
# Soft hyphen, zero-width space, word joiner, byte order mark, marks of the writing direction.
INVISIBLE = dict.fromkeys(
    [0xAD, 0x200B, 0x2060, 0xFEFF, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
JOINERS = "\u200c\u200d"  # within a word they shape Persian and emoji, at its ends nothing
ENDS = re.compile(rf"^[\s{JOINERS}]+|[\s{JOINERS}]+$")
UNSEEN = dict.fromkeys(map(ord, JOINERS + "\ufe0e\ufe0f"))
SEPARATORS = re.compile("[,;|]")
LIST_OF_LABELS = re.compile(rf"{SEPARATORS.pattern}|^\[.*\]$")


def clean_name(name: object) -> str:
    """A name as it is stored: in the Unicode form NFC, without surrounding space and characters that nobody sees."""
    text = str(name)
    if text.isascii():
        return text.strip()
    return ENDS.sub("", unicodedata.normalize("NFC", text.translate(INVISIBLE)))


@lru_cache(maxsize=10_000)
def _spelling(text: str) -> str:
    text = clean_name(text)
    whole = WHOLE.fullmatch(text)
    return text if whole is None else str(int(whole[1]))


def label_text(value: object) -> str:
    """The spelling by which labels are compared: 1, 1.0, "+1" and "1.0" are the same class, 1 and "01" are not.

    >>> [label_text(value) for value in (1, 1.0, " 1.0", "01", "-0", True)]
    ['1', '1', '1', '01', '0', 'True']
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _spelling(str(value))


def is_number(name: str) -> bool:
    """Whether a name is a number, however it is written (1, 01, 1.5, -1)."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def may_be_positions(names: Sequence[str]) -> bool:
    """Whether numbers in a column can only mean positions in `names`: no name holds a number but its own position.

    >>> may_be_positions(["negative", "positive"]), may_be_positions(["1 star", "2 stars"])
    (True, False)
    """
    if any(map(is_number, names)):
        return False
    return all(number == str(place) for place, name in enumerate(names) for number in re.findall(r"\d+", name))


def folded(name: str) -> str:
    """What a reader cannot tell apart: without case, width, joiners and the number of blanks."""
    text = unicodedata.normalize("NFKC", clean_name(name)).casefold()
    return " ".join(text.translate(UNSEEN).split())


def option(names: Sequence[str]) -> str:
    """The setting that gives these names, as it is typed: `--data.labels '["a", "b"]'`."""
    shown = [*names[:MOST_SHOWN], *["..."] * (len(names) > MOST_SHOWN)]
    return f"--data.labels {shlex.quote(json.dumps(shown, ensure_ascii=False))}"


def check_names(labels: Sequence[object]) -> list[str]:
    """The names that a user gave, cleaned; they must be two or more, different, and not blank."""
    names = [clean_name(name) for name in labels] if isinstance(labels, list | tuple) else []
    if len(names) < 2 or len({label_text(name) for name in names}) < len(names) or "" in names:
        raise UserError(f"labels must be two or more different names, not {labels!r}")
    return names


def separator_option(text: str) -> str:
    """What lets a text like `a,b` be read as several labels; a list that was written as a text has to be one."""
    found = SEPARATORS.search(text)
    if found is None or text.startswith("["):
        return "lists in JSONL or Parquet (not their text)"
    return f"--data.label_separator '{found[0]}'"


def infer_set_names(found: Iterable[str], where: str) -> list[str]:
    """Return the names of the labels (of which a row may have several) that a column uses: numbers first, then words.

    `found` are the labels of all rows, as `label_text` spells them.
    """
    names = sorted(set(found), key=_in_order)
    if odd := [name for name in names if name.lower() == "nan" or name == str(UNLABELLED)]:
        raise UserError(
            f"{where} holds {odd[0]!r}, which reads like a missing label; leave such rows out (in JSONL write null), "
            f"or give {option(names)} if it is a label"
        )
    if len(names) < 2:
        what = f"only the label {names[0]!r}" if names else "no labels"
        raise UserError(f"{where} holds {what}; at least two labels are needed (or give labels)")
    if len(names) > MAX_INFERRED_CLASSES:
        raise UserError(
            f"{where} holds {len(names)} different labels such as {names[0]!r}; name the right column by label_column, "
            "or give labels"
        )
    _refuse_twins(names, where)
    return names


def infer_label_names(values: Iterable[object], where: str) -> list[str]:
    """Return the class names that a label column (N,) uses: whole numbers as they count, other values sorted.

    Missing values have no label, nor has -1 among words. What could be meant in two ways is refused, with the setting
    that says which. `where` names the file and column, for the message.
    """
    found = {label_text(value) for value in values if not is_missing(value)}
    if missing := [text for text in found if text.lower() == "nan"]:
        raise UserError(
            f"{where} holds {missing[0]!r}, which reads like a missing label; leave it empty for a row without one, or "
            "give labels if it is a class"
        )
    if len(found) > 1 and not _all_decimal(found) and str(UNLABELLED) in found:
        found.discard(str(UNLABELLED))
        names = sorted(found, key=_in_order)
        if any(map(is_number, names)):
            raise UserError(
                f"{where} holds -1 beside {_listed(names)}: if -1 is a class, give {option(['-1', *names])}; if it "
                "stands for no label, leave it empty in these rows"
            )
    if len(found) < 2:
        what = f"only the label {found.pop()!r}" if found else "no labels"
        raise UserError(f"{where} holds {what}; at least two classes are needed (or give labels)")
    names = sorted(found, key=_in_order)
    if len(names) <= MAX_INFERRED_CLASSES and all(map(WHOLE.fullmatch, names)):
        if int(names[-1]) - int(names[0]) != len(names) - 1:
            raise UserError(
                f"{where} holds the numbers {_listed(names)}, with gaps: if they are classes, give {option(names)}; to "
                "estimate numbers, --data.regression true"
            )
        return names
    if len(found) > MAX_INFERRED_CLASSES or _all_decimal(found):
        raise UserError(
            f"{where} holds {len(found)} different values such as {min(found)!r}, which are no classes;"
            " set regression: true to estimate numbers, or give another label_column (or labels, if they are classes)"
        )
    if several := [name for name in names if LIST_OF_LABELS.search(name)]:
        raise UserError(
            f"{where} holds {several[0]!r}, which reads like several labels of one row: if a row may have several, "
            f"give {separator_option(several[0])}; if it is the name of one class, give {option(names)}"
        )
    _refuse_twins(names, where)
    return names


def is_missing(value: object) -> bool:
    """Whether a cell holds no label."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or clean_name(value) == ""


def _in_order(text: str) -> tuple[int, str]:
    """Whole numbers as they count, before words."""
    return (int(text), "") if WHOLE.fullmatch(text) else (10**18, text)


def _refuse_twins(names: Sequence[str], where: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other is not name:
            one, two = (repr(x) if x.isascii() else f"{x!r} ({ascii(x)[1:-1]})" for x in (other, name))
            raise UserError(
                f"{where} holds {one} and {two}, which read the same: write one of them throughout, or, if they are "
                f"different classes, give {option(names)}"
            )


def _all_decimal(texts: Iterable[str]) -> bool:
    return all(is_number(text) and math.isfinite(float(text)) for text in texts) and any("." in text for text in texts)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def is_unnamed(names: Sequence[str] | None) -> bool:
    """Whether a model's classes have no names of their own: none are stored, or LABEL_0, LABEL_1, ... in order."""
    return not names or list(names) == [f"LABEL_{number}" for number in range(len(names))]


def check_label_order(trained: Sequence[str] | None, wanted: Sequence[str], what: str, advice: str) -> None:
    """Refuse labels other than those for which a model was trained, or in another order.

    Nothing is refused where the model has no names, nor in a regression. `what` has the labels `wanted`: a task, a file
    or a setting.
    """
    if trained is None or (len(wanted) == len(trained) == 1):
        return
    if [label_text(name) for name in trained] == [label_text(name) for name in wanted]:
        return
    if is_unnamed(trained) and not set(trained) & set(wanted):
        return
    start = next((n for n, (one, two) in enumerate(zip(trained, wanted, strict=False)) if one != two), 0) // 10 * 10
    one, two = ("..., " * bool(start) + _listed(names[start:]) for names in (trained, wanted))
    raise UserError(f"{what}: this model was trained for {one}, in this order, and the labels here are {two}: {advice}")


def check_data_labels(trained: Sequence[str] | None, data: object) -> None:
    """Refuse a data module whose labels are not those for which a model was trained; one without names passes."""
    wanted = getattr(data, "label_names", None)
    if not wanted:
        return
    task = getattr(getattr(data, "task", None), "name", None)
    what, advice = "data.labels", "leave it out (the checkpoint's are used), or give the checkpoint of these labels"
    if task is not None:
        what, advice = f"task {task!r}", "wrong --ckpt_path or --data.task?"
    check_label_order(trained, [str(name) for name in wanted], what, advice)


def fill_in_labels(
    settings: MutableMapping[str, Any], names: Sequence[str] | None, problem_type: ProblemType | None = None
) -> None:
    """Set the labels of a `TextDataModule`'s settings to a model's, where they leave them to the training file.

    `settings` are the `init_args` of any data module; others than of own files stay as they are. One name is that of a
    regression. A model for several labels a row reads them in text files, too, if it was trained on lists.
    """
    own = all(name in settings for name in ("labels", "regression", "train_file"))
    if not own or settings.get("task") is not None or settings["regression"]:
        return
    if problem_type == "multi_label_classification" and settings.get("label_separator", "") is None:
        settings["label_separator"] = DEFAULT_SEPARATOR
    if settings["labels"] is not None:
        return
    if names and len(names) == 1:
        settings["regression"] = True
    elif names and not is_unnamed(names):
        settings["labels"] = list(names)
