"""Saved multi-exit models: a Hugging Face folder of the encoder, with the exits beside it.

    config.json, model.safetensors    the encoder, as transformers writes it (`AutoModel` opens the folder)
    exits.safetensors                 heads, prototypical networks, prototypes, the learning-to-exit head
    exits.json                        the model's class, exit layers, pooling, label names, policy with threshold
    tokenizer files                   as transformers writes them

Nothing in such a folder is executed: weights are safetensors, and the classes of the model and of its policy must
already be imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import cached_file

from mebert.errors import UserError
from mebert.models.families import build_encoder
from mebert.models.heads import feature_size_of
from mebert.models.prototypes import PrototypeBank
from mebert.policies import ExitPolicy, policy_from_spec
from mebert.storage.hub import hub_errors
from mebert.storage.trusted_classes import imported_class

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mebert.models.multi_exit import MultiExitModel

__all__ = [
    "class_path_of",
    "load_model",
    "load_policy",
    "model_class",
    "multi_exit_folder",
    "read_settings",
    "save_model",
    "saved_errors",
    "write_settings",
]

FORMAT = 1
SETTINGS, WEIGHTS = "exits.json", "exits.safetensors"


def save_model(
    model: MultiExitModel,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase | None,
    policy: ExitPolicy | None,
    extra: dict[str, Any],
) -> None:
    """See `MultiExitModel.save_pretrained`. The settings are written last: a folder without them is not a model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).unlink(missing_ok=True)
    model.encoder.config.id2label = dict(enumerate(model.label_names))
    model.encoder.config.label2id = {name: i for i, name in enumerate(model.label_names)}
    model.encoder.save_pretrained(folder)
    state = {name: value.detach().contiguous().cpu() for name, value in _own_state(model).items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    bank = model.prototypes
    own = {
        "pooling": model.pooling,
        "head": model.head,
        "head_dropout": model.head_dropout,
        "prototypes": None if bank is None else {"dim": bank.dim, "gamma": bank.gamma},
        "exit_scorer": model.exit_scorer is not None,
    }
    write_settings(folder, model, own, policy, extra)


def write_settings(
    folder: Path, model: MultiExitModel, own: dict[str, Any], policy: ExitPolicy | None, extra: dict[str, Any]
) -> None:
    """Write `exits.json`: what all models have, what this kind of model has of its own, the policy, and more."""
    settings = {
        "format": FORMAT,
        "model": class_path_of(model),
        "num_labels": model.num_labels,
        "label_names": model.label_names,
        "exit_layers": list(model.exit_layers),
        **own,
        "policy": None if policy is None else policy.spec(),
        **extra,
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_settings(path: str) -> dict[str, Any]:
    """The content of `exits.json` of a folder or Hub id."""
    if Path(path).is_dir() and not (Path(path) / SETTINGS).is_file():
        raise UserError(
            f"{path} is not a saved mebert model: it has no {SETTINGS}; fit writes such a folder as <run>/model"
        )
    with hub_errors(f"model {path!r}"):
        file = cached_file(path, SETTINGS)
    try:
        settings: dict[str, Any] = json.loads(Path(str(file)).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON ({error}); fetch or save the model anew") from error
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings of a model; fetch or save the model anew")
    if settings.get("format") != FORMAT:
        raise UserError(
            f"{file} has format {settings.get('format')!r}; this version of mebert reads format {FORMAT}: use the "
            "version that wrote it, or save the model anew"
        )
    return settings


@contextmanager
def saved_errors(path: str) -> Iterator[None]:
    """What a damaged or foreign model folder makes of its loading, as a `UserError`.

    Args:
        path: The folder or Hub id.
    """
    advice = "fetch or save the model anew"
    try:
        yield
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{path}: {SETTINGS} lacks {error}; {advice}") from error
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        lines = [line.strip() for line in str(error).strip().splitlines()]
        detail = lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else (lines or [""])[0]
        reason = detail.rstrip(".")
        raise UserError(f"{path}: {SETTINGS} does not fit {WEIGHTS} or itself ({reason}); {advice}") from error


def multi_exit_folder(model: str) -> str | None:
    """The folder or Hub id that holds the exits: `model` itself or, in a run, its folder `model`; None: no exits.

    Raises:
        UserError: There is no such folder or id.
    """
    path = Path(model)
    if path.is_dir():
        holding = [p for p in (path, path / "model") if (p / SETTINGS).is_file()]
        return str(holding[0]) if holding else None
    with hub_errors(f"model {model!r}"):
        found = cached_file(model, SETTINGS, _raise_exceptions_for_missing_entries=False)
    return None if found is None else model


def load_model(cls: type[MultiExitModel], path: str, settings: dict[str, Any]) -> MultiExitModel:
    """See `MultiExitModel.from_settings`."""
    encoder = build_encoder(path)
    bank = None
    size = feature_size_of(settings["pooling"], encoder.config.hidden_size)
    if settings["prototypes"] is not None:
        exits, labels = len(settings["exit_layers"]), settings["num_labels"]
        bank = PrototypeBank(exits - 1, size, labels, **settings["prototypes"])
    model = cls(
        encoder,
        num_labels=settings["num_labels"],
        exit_layers=settings["exit_layers"],
        pooling=settings["pooling"],
        head=settings["head"],
        head_dropout=settings["head_dropout"],
        label_names=settings["label_names"],
        prototypes=bank,
        exit_scorer=nn.Linear(size, 1) if settings.get("exit_scorer") else None,  # not in older folders
    )
    if Path(path).is_dir() and not (Path(path) / WEIGHTS).is_file():
        raise UserError(f"{path} has no {WEIGHTS}; fetch or save the model anew")
    with hub_errors(f"model {path!r}"):
        state = load_file(str(cached_file(path, WEIGHTS)))
    if broken := [name for name, value in state.items() if value.is_floating_point() and bool(value.isnan().any())]:
        raise UserError(f"{path}: {broken[0]} in {WEIGHTS} is not a number (NaN); take a checkpoint from before")
    missing, unexpected = model.load_state_dict(state, strict=False)
    lost = sorted(_own_state(model).keys() & set(missing))
    if lost or unexpected:
        parts = {"missing": lost, "unexpected": unexpected}
        found = "; ".join(f"{what} {', '.join(names[:3])}" for what, names in parts.items() if names)
        raise UserError(f"{path}: {WEIGHTS} does not fit {SETTINGS}: {found}; fetch or save the model anew")
    return model.eval()


def load_policy(path: str | Path, model: MultiExitModel) -> ExitPolicy | None:
    """The policy saved in a model folder, bound to the model; None if it was saved without one."""
    spec = read_settings(str(path))["policy"]
    return None if spec is None else policy_from_spec(spec).bind(model)


def class_path_of(model: MultiExitModel) -> str:
    """The name by which a folder knows the model's class."""
    module = type(model).__module__
    if module.startswith("mebert.models."):
        module = "mebert.models"  # files name the public home, not the file of the day
    return f"{module}.{type(model).__qualname__}"


def model_class(settings: dict[str, Any], asked: type[MultiExitModel]) -> type[MultiExitModel]:
    """The class of a saved model: of the one that was saved and the one asked for that which is a kind of the other.

    Args:
        settings: Of the folder; older ones name no class.
        asked: Whose `from_pretrained` was called.

    Raises:
        UserError: The saved class is not imported, no model, or neither is a kind of the other.
    """
    from mebert.models.multi_exit import MultiExitModel

    if "model" not in settings:
        return asked
    found = imported_class(settings["model"], MultiExitModel, "the saved model")
    if not issubclass(found, asked) and not issubclass(asked, found):
        raise UserError(f"the saved model is a {found.__name__} and no {asked.__name__}: open it as MultiExitModel")
    return found if issubclass(found, asked) else asked


def _own_state(model: MultiExitModel) -> dict[str, Tensor]:
    """Tensors beside the encoder's; one that exits share stands under its first name only, as safetensors wants it."""
    own: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict(keep_vars=True).items():  # the tensors themselves, so that one is known again
        if not name.startswith("encoder."):
            own.setdefault(id(value), (name, value))
    return dict(own.values())
