"""Where the labelled rows come from: a named task, a file, or the data of the run that trained the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from mebert.data.found_columns import find_as_trained
from mebert.data.label_names import DEFAULT_SEPARATOR, check_label_order, fill_in_labels
from mebert.data.loaders import SplitLoaders, open_split
from mebert.data.synthetic_splits import SyntheticSplits
from mebert.data.text_splits import TextSplits
from mebert.data.text_warnings import warn_of_kind
from mebert.data.tokenised import TokenisedSplit
from mebert.data.tokenizers import check_vocabulary, load_tokenizer, saved_in, tell_unknown_length
from mebert.errors import UserError
from mebert.models.multi_exit import MultiExitModel
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import RunFolder
from mebert.storage.spec_parts import TrainedColumns
from mebert.storage.trusted_classes import check_named_classes, imported_class, strict_parsing

PLAIN: dict[str, type[SplitLoaders]] = {
    "TextDataModule": TextSplits,
    "SyntheticEntailmentDataModule": SyntheticSplits,
}
"""Name of a data module to the class of its rows."""


def task_data(task: str, folder: str, model: MultiExitModel, max_length: int) -> SplitLoaders:
    """A named task in the model's own tokens; its labels must be the model's, in the same order."""
    stride = ModelSpec.read(folder).stride
    return _fitting(TextSplits(task, folder, max_length, stride=stride), model, f"task {task!r}")


def file_data(
    path: str,
    folder: str,
    model: MultiExitModel,
    max_length: int,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    trained: object = None,
) -> SplitLoaders:
    """A file of labelled texts (.csv, .tsv, .jsonl, .parquet), as the split `val`, in the model's labels and tokens.

    Columns that are None are those of the training, else found: of its data module `trained` where that is at hand and
    reads columns, else as stored with the model.
    """
    regression, spec = model.num_labels == 1, ModelSpec.read(folder)
    columns = find_as_trained(path, columns_of(trained) or spec.columns, text_column, text_pair_column, label_column)
    warn_of_kind(spec.num_texts, len(columns.texts))
    data = TextSplits(
        tokenizer=folder,
        max_length=max_length,
        stride=spec.stride,
        validation_file=path,
        text_column=columns.text,
        text_pair_column=columns.pair,
        label_column=columns.label,
        labels=None if regression else model.label_names,
        regression=regression,
        label_separator=(spec.label_separator or DEFAULT_SEPARATOR) if model.multi_label else None,
    )
    model.window = data.window
    return data


def read_run_config(config: Path) -> dict[str, Any]:
    """The content of a run's `config.yaml`, with its section `data`."""
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{config} is no configuration of a run: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("data"), dict):
        raise UserError(f"{config} is no configuration of a run: it has no section data; give task or file")
    return content


def run_data(folder: str, model: MultiExitModel, max_length: int | None = None) -> SplitLoaders:
    """The data of the run that wrote a model folder, by its `config.yaml`; `max_length` None: as the run cut them."""
    config = RunFolder.of_model(folder).config
    if not config.is_file():
        raise UserError(f"{folder} is not in the folder of a run: say by task or file which rows calibrate it")
    content = read_run_config(config)
    own, named, spec = content["data"].get("init_args") or {}, content["data"].get("class_path"), ModelSpec.read(folder)
    if "tokenizer" in own and saved_in(folder):  # with the settings that it had in training
        own["tokenizer"] = folder
    if "max_length" in own and (max_length is not None or own["max_length"] is None):
        own["max_length"] = max_length or spec.max_length
    if "stride" in own and own["stride"] is None:
        own["stride"] = spec.stride
    fill_in_labels(own, model.label_names, model.problem_type)
    if (plain := _own_rows(named)) is not None:
        try:
            return _fitting(plain(**own), model, str(config))
        except (TypeError, ValueError) as error:
            raise UserError(f"{config}: cannot create its data module: {error}") from error
    import lightning as L

    what, advice = f"{config}: cannot create its data module: it", "give the rows by --file or --task"
    kind = imported_class(named, L.LightningDataModule, what, advice=advice)
    check_named_classes(own, f"{config}: cannot create its data module", kind)
    strict_parsing()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    try:
        data = parser.instantiate_classes(parser.parse_object({"data": content["data"]})).data
    except ArgumentError as error:
        raise UserError(f"{config}: cannot create its data module: {' '.join(str(error).split())}") from error
    if not isinstance(data, SplitLoaders):
        raise UserError(f"{config}: {type(data).__name__} has no splits of texts; give task or file")
    return _fitting(data, model, str(config))


def columns_of(data: object) -> TrainedColumns | None:
    """The columns that a data module reads; None where it has no texts by column."""
    texts, label = getattr(data, "text_columns", None), getattr(data, "label_column", None)
    if not texts or not label:
        return None
    return TrainedColumns(text_columns=list(texts), label_column=label)


def _own_rows(class_path: Any) -> type[SplitLoaders] | None:
    """The rows of one of mebert's own data modules, for which no trainer is imported; None for another class."""
    module, _, name = str(class_path).rpartition(".")
    modules = ("", "mebert", "mebert.data", "mebert.data.datamodule", "mebert.data.synthetic")
    return PLAIN.get(name) if module in modules else None


def trained_length(folder: str, model: MultiExitModel) -> int:
    """Tokens to which a saved model's texts are cut: as in training, else as many as it can read."""
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, model.adapter.config.vocab_size)
    most = min(model.adapter.max_length, tokenizer.model_max_length)
    stored = ModelSpec.read(folder).max_length
    if stored is None:
        tell_unknown_length(folder, most)
    return most if stored is None else min(stored, most)


def _fitting(data: SplitLoaders, model: MultiExitModel, what: str) -> SplitLoaders:
    if (tokenizer := getattr(data, "tokenizer", None)) is not None:
        check_vocabulary(tokenizer, model.adapter.config.vocab_size)
    model.window = getattr(data, "window", None)  # costs are those of the texts as they are read
    labels = getattr(data, "num_labels", model.num_labels)
    if labels != model.num_labels:
        raise UserError(f"{what} has {labels} labels, but the model was trained for {model.num_labels}")
    kind = getattr(data, "problem_type", model.problem_type)
    if kind != model.problem_type:
        raise UserError(f"{what} is for {kind}, but the model was trained for {model.problem_type}")
    advice = "wrong model or task? Rows of your own are given by file, their labels by the model's names"
    check_label_order(model.label_names, getattr(data, "label_names", model.label_names), what, advice)
    return data


def used_for_selection(data: SplitLoaders, split: str, rows: TokenisedSplit) -> bool:
    """Whether rows are those of a validation split, on which checkpoints and policies are selected.

    A task that hides its test labels is tested on its validation split, whose rows then go by both names.
    """
    if split.startswith("val"):
        return True
    try:
        validation = open_split(data, "val" + split.removeprefix("test"))
    except UserError:  # there is none
        return False
    names = ("offsets", "tokens", "labels")
    return all(np.array_equal(getattr(rows, name), getattr(validation, name)) for name in names)
