"""`fit FILE --recipe NAME`: the configuration that stands for it, from the file's columns, size and lengths.

It is read like a `--config` file before all other options, so that each of them wins over what is chosen here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import numpy as np
from lightning import LightningModule

import mebert
from mebert.data.files import label_form
from mebert.data.found_columns import Columns, check_own_file, find_columns, read_columns
from mebert.data.tokenizers import encode_texts, load_tokenizer
from mebert.errors import UserError
from mebert.modules.two_stage import TwoStageModule
from mebert.storage.hub import hub_errors
from mebert.storage.trusted_classes import strict_parsing

# By the folders of `configs/`; joint training has none.
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "self_distill": ("SelfDistillModule", {}),
    "joint": ("MultiExitModule", {}),
    "deebert": ("DeeBERTModule", {}),
    "fastbert": ("FastBERTModule", {}),
    "de3": ("ProtoExitModule", {}),
    "cd": ("CurriculumDistillModule", {"distillation": "layerwise"}),
    "geep": ("GEEPModule", {}),
    "pabee": ("PABEEModule", {}),
    "berxit": ("BERxiTModule", {}),
    "elasticbert": ("ElasticBERTModule", {}),
    "romebert": ("RomeBERTModule", {}),
    "gpfee": ("GPFEEModule", {}),
    "learned_weights": ("LearnedWeightsModule", {}),
}
DEFAULT_RECIPE = "self_distill"  # docs/recipe.md says why
DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
COLUMNS = ("text_column", "text_pair_column", "label_column", "label_separator")

HELD_OUT, MOST_HELD_OUT = 0.15, 2000  # share and rows, of validation and of test
LONGEST = 256  # tokens
COVERED = 99  # percent of the texts that are not cut
MEASURED = 2500  # texts whose length is measured, at least where there are as many
ROWS_SEEN = 6000  # rows that training sees in all epochs, at least
FEWEST_EPOCHS, MOST_EPOCHS, PATIENCE = 3, 10, 2
# Options on which other settings depend.
CHOSEN = {
    "trainer.max_epochs": int,
    "model.learning_rate": float,
    "data.max_length": int,
    "data.holdout": float,
    "data.test_holdout": float,
}
SHORT = ("recipe", "encoder", *COLUMNS)
OPTIONS = (*SHORT, *(name.rpartition(".")[2] for name in CHOSEN))
"""What `fit FILE` takes beside the options of `fit`, without their dashes."""
SMALL_ENCODER = 768  # width below which an encoder needs a larger learning rate


class _Options(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def expand(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line, those of the short form `fit FILE` replaced by its configuration; and notes on it.

    Raises:
        UserError: No column can be found, there is one label alone or no such recipe or encoder, or the short form's
            options have no file.
    """
    words = list(words)
    if words[:1] != ["fit"]:
        return words, []
    if len(words) < 2 or words[1].startswith("-"):
        if alone := [word for word in words if word.startswith("--") and word[2:].partition("=")[0] in SHORT]:
            raise UserError(f"{alone[0]} needs a file of rows first: python -m mebert fit reviews.csv {alone[0]} ...")
        return words, []
    path, rest = words[1], words[2:]
    if any(word in ("-h", "--help", "--help_all") for word in rest):
        return ["fit", *rest], []
    check_own_file(path)
    parser = _Options(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default=DEFAULT_RECIPE)
    parser.add_argument("--encoder", "--model.encoder", default=DEFAULT_ENCODER)
    for option, kind in CHOSEN.items():
        parser.add_argument(f"--{option.rpartition('.')[2]}", f"--{option}", type=kind, dest=option)
    for name in COLUMNS:
        parser.add_argument(f"--{name}", f"--data.{name}")
    short, others = parser.parse_known_args(rest)
    columns = find_columns(path, short.text_column, short.text_pair_column, short.label_column)
    chosen = {name: value for name, value in vars(short).items() if name in CHOSEN and value is not None}
    separator = short.label_separator
    config, notes = _configuration(path, columns, short.recipe, short.encoder, chosen, others, separator)
    return ["fit", "--config", json.dumps(config), *others], notes


def _configuration(
    path: str,
    columns: Columns,
    recipe: str,
    encoder: str,
    chosen: Mapping[str, Any],
    others: Sequence[str],
    separator: str | None,
) -> tuple[dict[str, Any], list[str]]:
    class_path, own, two_stages = _recipe(recipe)
    form = label_form([path], columns.label, separator)
    rows, labels, texts = read_columns(path, columns, MEASURED, form)
    given = {word.partition("=")[0] for word in others}
    if labels < 2 and not given & {"--data.labels", "--data.regression"}:
        raise UserError(
            f"{path}: column {columns.label!r} holds {'one label alone' if labels else 'no label'}, and at least two "
            "classes are needed; name another column by --label_column"
        )
    share = round(min(HELD_OUT, MOST_HELD_OUT / max(rows, 1)), 4)
    held_out = {
        "holdout": chosen.get("data.holdout", 0.0 if "--data.validation_file" in given else share),
        "test_holdout": chosen.get("data.test_holdout", 0.0 if "--data.test_file" in given else share),
    }
    if rows < (needed := 1 + sum(share > 0 for share in held_out.values())):
        raise UserError(
            f"{path} has {rows} row(s) with a label, and at least {needed} are needed: some are held out for "
            "validation and test; give more, or files of them (--data.validation_file, --data.test_file)"
        )
    training = round(rows * (1 - sum(held_out.values())))
    whole = [row for row in texts if all(isinstance(text, str) for text in row)]
    width, length, covered = _encoder_fit(encoder, whole, chosen.get("data.max_length"))
    rate = chosen.get("model.learning_rate", 1e-4 if width < SMALL_ENCODER else 2e-5)
    epochs = min(max(FEWEST_EPOCHS, round(ROWS_SEEN / max(training, 1))), MOST_EPOCHS)
    max_epochs = chosen.get("trainer.max_epochs", (2 if two_stages else 1) * epochs)
    if two_stages:  # heads alone, in the second
        own = own | {"stage1_epochs": max(1, max_epochs // 2), "student_learning_rate": 10 * rate}
    model = {"encoder": encoder, "pooling": "mean", "learning_rate": rate, "warmup_ratio": 0.06, **own}
    data = {
        "train_file": path,
        "text_column": columns.text,
        "text_pair_column": columns.pair,
        "label_column": columns.label,
        **({} if separator is None else {"label_separator": separator}),
        **held_out,
        "stratify": True,
        "max_length": length,
        "batch_size": 16 if training < 1000 else 32,
        "eval_batch_size": 64,
    }
    named = " and ".join(map(repr, columns.texts))
    read = "are one window" if "--data.stride" in given else "are not cut"
    what = "labels, of which a row may have several" if form.several else "values"
    notes = [
        f"{path}: text {named}, label {columns.label!r} ({labels} {what}), {rows:,} rows",
        f"recipe {recipe}, encoder {encoder}, max_length {length} ({covered:.0f} % of the texts {read}), learning "
        f"rate {rate:g}; held out for validation {held_out['holdout']:.0%}, "
        f"for the test {held_out['test_holdout']:.0%}",
    ]
    config = {
        "experiment": Path(path).stem,
        "trainer": {"max_epochs": max_epochs},
        "model": {"class_path": class_path, "init_args": model},
        "data": {"class_path": "mebert.TextDataModule", "init_args": data},
        "early_stopping": {"patience": PATIENCE},
        "checkpoint": {"monitor": "val/auc"},
    }
    return config, notes


def _recipe(name: str) -> tuple[str, dict[str, Any], bool]:
    """The class of a recipe, its own settings, and whether it trains in two stages."""
    classes = {kind: (kind, settings) for kind, settings in RECIPES.values()}
    known = RECIPES | {f"mebert.{kind}": value for kind, value in classes.items()} | classes
    if name in known:
        kind, own = known[name]
        return f"mebert.{kind}", own, issubclass(getattr(mebert, kind), TwoStageModule)
    if "." in name:
        strict_parsing()
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_argument("--recipe", type=type[LightningModule])  # imported as by --model, with its denied paths
        try:
            found = parser.parse_args([f"--recipe={name}"]).recipe
        except (ImportError, AttributeError, jsonargparse.ArgumentError) as error:
            why = "no LightningModule" if isinstance(error, jsonargparse.ArgumentError) else error
            raise UserError(
                f"--recipe {name}: {why}; give the import path of a class, or {', '.join(RECIPES)}"
            ) from None
        return name, {}, issubclass(found, TwoStageModule)
    near = get_close_matches(name.lower(), RECIPES, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    raise UserError(
        f"--recipe {name}: no such recipe{meant} Known: {', '.join(RECIPES)}, or the import path of a class"
    )


def _encoder_fit(encoder: str, texts: Sequence[Sequence[Any]], max_length: int | None) -> tuple[int, int, float]:
    """The encoder's width, the tokens to cut texts at, and the share of the texts (N, 1 or 2) in percent within it."""
    from mebert.storage.elasticbert import encoder_configuration

    try:
        with hub_errors(f"the encoder {encoder!r}"):
            config, _ = encoder_configuration(encoder)
        tokenizer = load_tokenizer(encoder)
    except UserError as error:
        raise UserError(f"{error}; another encoder: --encoder FOLDER (or a Hub id)") from error
    most = min(LONGEST, int(tokenizer.model_max_length), int(getattr(config, "max_position_embeddings", LONGEST)))
    longest = min(2 * LONGEST, int(tokenizer.model_max_length))
    if not texts:
        return int(config.hidden_size), max_length or min(128, most), 100.0
    lengths = np.array(
        [len(ids) for ids in encode_texts(tokenizer, list(zip(*texts, strict=True)), longest)["input_ids"]]
    )
    length = max_length or max(8, min(most, 8 * int(np.ceil(np.percentile(lengths, COVERED) / 8))))
    return int(config.hidden_size), length, 100 * float((lengths <= length).mean())
