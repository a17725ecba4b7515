"""What a run's `config.yaml` says of its training that a card may tell: no path, and no name of a file."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import mebert
from mebert.commands.push.published import OWN_ROWS
from mebert.data.model_rows import read_run_config
from mebert.data.tasks import Task, find_task
from mebert.errors import UserError
from mebert.sharing.facts import BUILT_IN, Training
from mebert.storage.hub import hub_errors

WORDS = ("exit_weights", "pooling", "head", "dar", "class_weights", "max_drop", "target_speedup")
DATA = ("batch_size", "max_length", "stride", "seed")
TRAINER = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")
ENDINGS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".txt": "text"}
SOURCE = re.compile(r"Source: (.*?)(?:;|, and (?:its|the) released| \(docs/|\.(?: |$))", re.DOTALL)


def training_of(config: Path) -> Training:
    """How a run was trained."""
    content = read_run_config(config)
    model, data = content.get("model") or {}, content["data"]
    recipe, own = str(model.get("class_path", "")).rpartition(".")[2], model.get("init_args") or {}
    rows: Mapping[str, Any] = data.get("init_args") or {}
    task = None
    if rows.get("task") is not None:
        with suppress(UserError):
            task = find_task(str(rows["task"]))
    files = [str(value) for name, value in rows.items() if name.endswith("_file") and value is not None]
    ours = str(data.get("class_path", "")).startswith("mebert.")
    if task is not None:
        words, kind = f"the task {task.name}", task.hub_id
    elif ours and str(data["class_path"]).endswith("SyntheticEntailmentDataModule"):
        words, kind = "mebert's built-in entailment task, whose texts are made from a grammar", BUILT_IN
    else:
        endings = (ENDINGS.get(Path(one).suffix.lower()) for one in files)
        words, kind = OWN_ROWS, next(filter(None, endings), "text")
    method, source = _paper(recipe) if str(model.get("class_path", "")).startswith("mebert.") else ("", None)
    return Training(
        recipe=recipe,
        method=method,
        source=source,
        settings=_settings(own, rows, content.get("trainer") or {}),
        task=None if task is None else task.name,
        data=words,
        dataset=None if task is None else (task.hub_id, task.config),
        dataset_type=kind,
        validated_on_test=_test_is_validation(task, rows),
        dataset_licence=None if task is None else _licence(task.hub_id),
    )


def _test_is_validation(task: Task | None, rows: Mapping[str, Any]) -> bool:
    """Whether validation rows served as test (`mebert.data.holdout`)."""
    if rows.get("holdout") or rows.get("test_holdout") or rows.get("test_file"):
        return False
    return not task.public_test_labels if task is not None else rows.get("validation_file") is not None


def _settings(model: Mapping[str, Any], data: Mapping[str, Any], trainer: Mapping[str, Any]) -> dict[str, str]:
    """Numbers, and the words of settings that name no file."""
    own = {name: value for name, value in model.items() if isinstance(value, int | float) or name in WORDS}
    rest = {name: trainer.get(name) for name in TRAINER} | {name: data.get(name) for name in DATA}
    found = {
        name: value for name, value in (own | rest).items() if isinstance(value, int | float | str) and value != -1
    }
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items()}


def _paper(recipe: str) -> tuple[str, str | None]:
    """What a recipe of mebert does and where it comes from, as its file says first; nothing is imported."""
    for file in sorted((Path(mebert.__file__).parent / "modules").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.ClassDef) and node.name == recipe for node in tree.body):
            text = " ".join((ast.get_docstring(tree) or "").split())
            found = SOURCE.search(text)
            return text.partition(". ")[0].rstrip("."), None if found is None else found[1]
    return "", None


def _licence(dataset: str) -> str | None:
    """The licence that a data set's card names; None where it names none, or the Hub cannot be asked."""
    from huggingface_hub import HfApi

    with suppress(UserError), hub_errors(f"the card of {dataset}"):
        card = HfApi().dataset_info(dataset, timeout=5).card_data
        found = None if card is None else card.get("license")
        found = ", ".join(found) if isinstance(found, list) else found
        return None if found in (None, "unknown", "other") else str(found)
    return None
