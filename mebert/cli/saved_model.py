"""The model folder of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mebert.data.model_rows import columns_of
from mebert.exit_predictor import save_predictors


def save_model(folder: Path, module: Any, data: Any) -> None:
    """Save a trained module's model, and what is needed to read texts as in training and to run at its points.

    Args:
        folder: `<run>/model`.
        module: A `MultiExitModule`.
        data: The data module that it was trained with.
    """
    read, columns = getattr(data, "text_settings", {}), columns_of(data)
    separator = getattr(getattr(data, "label_form", None), "separator", None)
    module.model.save_pretrained(
        folder,
        getattr(data, "tokenizer", None),
        module.policy,
        chosen_by=module.chosen_by,
        expected=module.expected_points(),
        operating_points=module.operating_points,
        max_drops=module.max_drops,
        **{name: read.get(name) for name in ("max_length", "num_texts")},
        **({} if read.get("stride") is None else {"stride": read["stride"]}),
        **({} if separator is None else {"label_separator": separator}),
        **({} if columns is None else {"columns": columns.model_dump()}),
    )
    save_predictors(folder, module.exit_predictors)
