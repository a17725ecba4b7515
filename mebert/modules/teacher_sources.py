"""The kinds of external teachers: a classifier of the Hub, a saved mebert model, a checkpoint of mebert.

A source has the labels, the tokenizer and an identity of the weights without building the model, so that logits in the
cache are found without the teacher. Shapes: B batch, S tokens, C classes.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from transformers.utils import cached_file

from mebert.choices import ProblemType
from mebert.data.tokenizers import stored_settings
from mebert.errors import UserError
from mebert.models.families import quiet_loading
from mebert.models.heads import per_label
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.models.weights import check_weights
from mebert.models.windows import flat_windows, mean_of_windows
from mebert.modules.base import MultiExitModule
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.hub import hub_errors
from mebert.storage.model_folder import SPEC_FILE
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import RunFolder
from mebert.storage.stored_weights import opening

SEVERAL: ProblemType = "multi_label_classification"
IDENTITY_FILES = ("*.safetensors", "*.bin", "config.json", SPEC_FILE)


class Teacher(nn.Module):
    """A Hugging Face classifier, or the last exit of a multi-exit model; without gradients."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        self.config: Any = (model.adapter if isinstance(model, MultiExitModel) else self.model).config
        self.eval().requires_grad_(False)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C) of a batch with `input_ids`, `attention_mask` and perhaps `token_type_ids` (B, S).

        Of several labels a row they are (B, C, 2).
        """
        inputs = model_inputs(batch)
        if isinstance(self.model, MultiExitModel):
            return self.model.last_exit(**inputs)
        takes = inspect.signature(self.model.forward).parameters
        (ids, mask, types), windows = flat_windows(**inputs)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        logits: Tensor = self.model(**{k: v for k, v in given.items() if k in takes and v is not None}).logits
        logits = mean_of_windows(logits, windows)
        return per_label(logits) if self.config.problem_type == SEVERAL else logits


@dataclass(frozen=True)
class TeacherSource:
    """A teacher that has not been built yet."""

    name: str
    label_names: list[str] | None  # in the order of its classes; None where they have none
    num_labels: int  # 1 means regression
    multi_label: bool  # whether a row may have several labels, so that logits are (B, C, 2)
    tokenizer: str | None  # Hub id or folder; None where only the user's data has it
    identity: Callable[[], str]  # returns a string that changes with its weights; reads whole files
    build: Callable[[], Teacher]  # on the CPU
    tokenizer_settings: Mapping[str, Any] = field(default_factory=dict)  # for `load_tokenizer`


def find_teacher(name: str) -> TeacherSource:
    """The teacher that a setting names; a UserError where it does not exist or is no classifier.

    A checkpoint of mebert (`.ckpt`), or a folder or Hub id of a saved mebert model or of a classifier.
    """
    if Path(name).suffix == ".ckpt":
        return _from_checkpoint(name)
    with hub_errors(f"teacher {name!r}"):
        quietly = ("gated_repo", "missing_entries", "connection_errors")
        found = cached_file(name, SPEC_FILE, **{f"_raise_exceptions_for_{what}": False for what in quietly})
    return _from_hub(name) if found is None else _from_saved(name)


def _from_hub(name: str) -> TeacherSource:
    from transformers import AutoConfig

    with hub_errors(f"teacher {name!r}"):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    return TeacherSource(
        name=name,
        label_names=[str(config.id2label[number]) for number in range(config.num_labels)],
        num_labels=config.num_labels,
        multi_label=config.problem_type == SEVERAL,
        tokenizer=name,
        identity=lambda: _folder_identity(name),
        build=lambda: _load_classifier(name),
    )


def _load_classifier(name: str) -> Teacher:
    from transformers import AutoModelForSequenceClassification

    with hub_errors(f"teacher {name!r}"), quiet_loading():
        model, report = AutoModelForSequenceClassification.from_pretrained(
            name,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
        )
    # What is missing gets random weights and no more than a warning: the logits of a bare encoder would be noise.
    if missing := sorted(report["missing_keys"]):
        raise UserError(
            f"teacher {name!r} is no trained classifier: it has no weights for {', '.join(missing[:3])}; "
            "give a model that was fine-tuned for this task"
        )
    with hub_errors(f"teacher {name!r}"):
        check_weights(f"teacher {name!r}", name, model, report)
    return Teacher(model)


def _folder_identity(name: str) -> str:
    """The commit of a Hub id, which names its content; a digest of the files of a folder."""
    folder = Path(name)
    if not folder.is_dir():
        with hub_errors(f"teacher {name!r}"):
            return Path(str(cached_file(name, "config.json"))).parent.name
    return _digest(*sorted({path for pattern in IDENTITY_FILES for path in folder.glob(pattern)}))


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


@contextmanager
def _own_errors(name: str) -> Iterator[None]:
    """Convert errors of a model of mebert to one line that names the teacher."""
    try:
        yield
    except (ValueError, TypeError, KeyError, RuntimeError, argparse.ArgumentError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"teacher {name!r} cannot be loaded: {reason}") from error


def _from_saved(name: str) -> TeacherSource:
    with _own_errors(name):
        spec = ModelSpec.read(name)
    return TeacherSource(
        name=name,
        label_names=spec.label_names,
        num_labels=spec.num_labels,
        multi_label=spec.problem_type == SEVERAL,
        tokenizer=name,
        identity=lambda: _folder_identity(name),
        build=lambda: _load_saved(name),
    )


def _load_saved(name: str) -> Teacher:
    with _own_errors(name):
        return Teacher(MultiExitModel.from_pretrained(name))


def _from_checkpoint(name: str) -> TeacherSource:
    path = Path(name)
    if not path.is_file():
        raise UserError(f"teacher {name!r}: no such file; `fit` writes <run folder>/checkpoints/best.ckpt")
    with _own_errors(name):
        content = read_checkpoint(path)
        settings = content["hyper_parameters"]
        num_labels = settings["num_labels"]
    # A finished run has its model as a folder too, with the names of the labels and the tokenizer.
    folder = RunFolder.of_checkpoint(path.resolve()).model
    saved = _from_saved(str(folder)) if (folder / SPEC_FILE).is_file() else None
    pretrained = None if settings.get("encoder_config") else settings.get("encoder")
    return TeacherSource(
        name=name,
        label_names=None if saved is None else saved.label_names,
        num_labels=num_labels,
        multi_label=settings.get("problem_type") == SEVERAL,
        tokenizer=pretrained if saved is None else saved.tokenizer,
        identity=lambda: _digest(path),
        build=lambda: _load_checkpoint(path),
        tokenizer_settings={} if saved is not None else stored_settings(content["mebert"].get("texts")),
    )


def _load_checkpoint(path: Path) -> Teacher:
    """The last exit of a checkpoint's module, of the class that it names; that class must have been imported."""
    with _own_errors(str(path)):
        content = read_checkpoint(path)
        settings = content["hyper_parameters"]
        if "_class_path" in settings:
            # Of LightningModule: through a class without **kwargs Lightning would build that class, not the named one.
            with opening(path):
                named = L.LightningModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
            if not isinstance(named, MultiExitModule):
                raise UserError(f"its class {type(named).__name__} is no MultiExitModule")
            return Teacher(named.model)
        # Written from Python, a checkpoint names no class; all recipes build the encoder and the exits alike.
        known = inspect.signature(MultiExitModule).parameters
        module = MultiExitModule(**{key: value for key, value in settings.items() if key in known})
        weights = content["state_dict"].items()
        own = {key.removeprefix("model."): value for key, value in weights if key.startswith("model.")}
        module.model.load_state_dict({k: value for k, value in own.items() if not k.startswith("prototypes.")})
        return Teacher(module.model)
