"""Saved multi-exit models: a Hugging Face folder of the encoder, with the exits beside it.

    config.json, model.safetensors    the encoder, as transformers writes it (`AutoModel` opens the folder), and the
                                      last exit, where it is a classifier of transformers (`pipeline` opens it)
    exits.safetensors                 heads, prototypical networks, prototypes, the learning-to-exit head
    exits.json                        what the model is (`mebert.storage.model_spec`), with its policy and thresholds
    tokenizer files                   as transformers writes them

Nothing in such a folder is executed: weights are safetensors, and the classes of the model and of its policy must
already be imported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.utils import cached_file

import mebert
from mebert.choices import ProblemType
from mebert.errors import UserError
from mebert.metrics.ranking import comparable_logits
from mebert.models.heads import ExitHead
from mebert.models.hf_classifier import classifier_class, classifier_state, set_classifier_options
from mebert.runtime.torch_state import plain_torch_state
from mebert.sharing.card import CARD, model_card
from mebert.sharing.examples import example_texts
from mebert.sharing.facts import CardFacts
from mebert.sharing.upload import Target, check_licence, check_repo, upload
from mebert.storage.atomic import atomic_files, write_text
from mebert.storage.finite import check_finite, first_names
from mebert.storage.hub import hub_errors
from mebert.storage.hub_folder import model_folder
from mebert.storage.json_values import SAVE_ANEW, faults_in
from mebert.storage.model_folder import SPEC_FILE
from mebert.storage.model_spec import ModelSpec, only_writer
from mebert.storage.thresholds import Threshold
from mebert.storage.trusted_classes import imported_class
from mebert.storage.weight_files import EXITS_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class PolicyLike(Protocol):
    """What models need of an exit policy (`mebert.policies.ExitPolicy`)."""

    def spec(self) -> dict[str, Any]:
        """Its class path and arguments."""
        ...

    def flops(self) -> int:
        """Counted cost of one decision."""
        ...

    @property
    def name(self) -> str:
        """As commands name it."""
        ...

    @property
    def threshold(self) -> Threshold:
        """Below which a sample leaves."""
        ...


class PretrainedModel(nn.Module, ABC):
    """Saves and opens models that are an encoder with parts beside it; a subclass gives `spec` and `build`."""

    encoder: PreTrainedModel
    label_names: list[str]
    problem_type: ProblemType
    exit_temperatures: tuple[float, ...] = ()
    score_bounds: Mapping[float, tuple[tuple[float, float], ...]] = MappingProxyType({})
    window: int | None = None  # tokens of the windows in which it reads long texts; None: they are cut
    base_model: str | None = None  # Hub id of the encoder from which it was trained; None as in `ModelSpec`

    @abstractmethod
    def spec(self) -> ModelSpec:
        """What the model is, without policy and thresholds."""

    @classmethod
    @abstractmethod
    def build(cls, path: str, spec: ModelSpec) -> Self:
        """The model of a folder or Hub id, before the weights beside the encoder's are loaded."""

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase | None = None,
        policy: PolicyLike | None = None,
        **extra: Any,
    ) -> None:
        """Write a folder that `MultiExitModel.from_pretrained` (and, for the encoder, `AutoModel`) opens.

        Args:
            folder: Made if it is missing.
            tokenizer: Saved beside the weights.
            policy: The exit policy with its threshold.
            extra: Further plain values for `exits.json`.

        Raises:
            UserError: A value does not fit the schema of `exits.json`.
        """
        folder = Path(folder)
        if self.exit_temperatures:
            extra["exit_temperatures"] = list(self.exit_temperatures)
        if self.base_model is not None:
            extra.setdefault("base_model", self.base_model)
        if self.score_bounds:
            extra["score_bounds"] = {share: [list(b) for b in bounds] for share, bounds in self.score_bounds.items()}
        spec = self.spec().with_values(policy=None if policy is None else policy.spec(), **extra)
        folder.mkdir(parents=True, exist_ok=True)
        with only_writer(folder):
            (folder / SPEC_FILE).unlink(missing_ok=True)  # written last: a folder without it is no model
            with atomic_files(folder) as unfinished:
                self.save_parts(unfinished)
                if tokenizer is not None:
                    tokenizer.save_pretrained(unfinished)
            spec.write(folder)

    def save_parts(self, folder: Path) -> None:
        """Write the weights and `config.json` into a folder."""
        config = self.encoder.config
        config.id2label = dict(enumerate(self.label_names))
        config.label2id = {name: i for i, name in enumerate(self.label_names)}
        if self.problem_type != "single_label_classification":
            config.problem_type = self.problem_type
        # Not under the names of a checkpoint that was renamed as it was read (ElasticBERT's): config.json is BERT's.
        own_names = {"save_original_format": False}
        if self.hugging_face_fault() is not None:
            self.encoder.save_pretrained(folder, **own_names)
        else:
            set_classifier_options(config)
            state = classifier_state(self.encoder, self.last_head())
            self.encoder.save_pretrained(folder, state_dict=state, **own_names)
            config.architectures = [classifier_class(config.model_type)]  # not the encoder's class
            config.save_pretrained(folder)
        exits = {name: value.detach().contiguous().cpu() for name, value in self._own_state().items()}
        save_file(exits, folder / EXITS_FILE, metadata={"format": "pt"})

    def push_to_hub(
        self,
        repo_id: str,
        tokenizer: PreTrainedTokenizerBase,
        policy: PolicyLike | None = None,
        *,
        private: bool = False,
        license: str | None = None,
        token: str | None = None,
        update: bool = False,
        **extra: Any,
    ) -> str:
        """Save the model and upload it with a model card, as one commit; `python -m mebert push RUN` knows more for it.

        Args:
            repo_id: `user/name`; it is made if it is missing.
            tokenizer: As in `save_pretrained`, as are `policy` and `extra`.
            policy: The exit policy with its threshold.
            private: Whether only its owner may see it.
            license: As the Hub names it; None: the card has a line to fill in.
            token: With write access; None: that of `hf auth login` or `HF_TOKEN`.
            update: Replace what the repository holds, its card included.
            extra: Further plain values for `exits.json`.

        Returns:
            The address of the model's page.

        Raises:
            UserError: There is no token or no right, the repository holds files, or the Hub cannot be reached.
        """
        check_repo(repo_id)
        check_licence(license)
        with TemporaryDirectory() as made:
            self.save_pretrained(made, tokenizer, policy, **extra)
            spec = ModelSpec.read(made)
            facts = CardFacts(
                repo=repo_id,
                spec=spec,
                encoder=self.encoder_in_words(),
                licence=license,
                policy=None if policy is None else (policy.name, policy.threshold),
                pipeline_fault=self.hugging_face_fault(),
                example=example_texts(tokenizer, spec.num_texts),
            )
            write_text(model_card(facts), Path(made) / CARD)
            return upload(Path(made), Target(repo_id, private, update, token), f"Model of mebert {mebert.__version__}")

    @abstractmethod
    def encoder_in_words(self) -> str:
        """The family and size of its encoder."""

    @abstractmethod
    def hugging_face_fault(self) -> str | None:
        """Why transformers' classifier for the family does not compute the last exit; None where it does."""

    @abstractmethod
    def last_head(self) -> ExitHead:
        """The last exit."""

    @property
    def temperatures(self) -> Tensor | None:
        """`exit_temperatures` for a record, (E,); None where there are none."""
        return torch.tensor(self.exit_temperatures) if self.exit_temperatures else None

    def comparable(self, logits: Tensor, exits: Tensor) -> Tensor:
        """Logits (N, C) of several exits, 0-based (N,), so that their rows can be ranked together."""
        return comparable_logits(logits, exits, self.exit_temperatures)

    @classmethod
    def from_pretrained(cls, path: str | Path, *, revision: str | None = None, token: str | bool | None = None) -> Self:
        """Open a folder or Hub id written by `save_pretrained`, in evaluation mode.

        The class is the more special one of the saved class and the one on which this is called.

        Args:
            path: A folder, a Hub id or `<id>@<revision>`.
            revision: Of a Hub id: a branch, tag or commit.
            token: Of the account that may read it; None: that of `hf auth login` or `HF_TOKEN`.

        Raises:
            UserError: There is no such folder or id, it holds no exits, or its class is not imported or another one.
        """
        path = model_folder(path, revision, token)
        spec = ModelSpec.read(path)
        with faults_in(path), plain_torch_state():
            base = cls.__mro__[cls.__mro__.index(PretrainedModel) - 1]  # MultiExitModel
            found = cls if spec.model is None else imported_class(spec.model, base, "the saved model")
            if not issubclass(found, cls) and not issubclass(cls, found):
                raise UserError(
                    f"the saved model is a {found.__name__} and no {cls.__name__}: open it as MultiExitModel"
                )
            model: Self = (found if issubclass(found, cls) else cls).from_settings(path, spec)
            model.try_out()
            return model

    @classmethod
    def from_settings(cls, path: str, settings: ModelSpec) -> Self:
        """The model of a folder or Hub id whose `exits.json` has been read; `from_pretrained` finds the class."""
        model = cls.build(path, settings)
        model.exit_temperatures = tuple(settings.exit_temperatures) or model.exit_temperatures
        model.window, model.base_model = settings.window, settings.base_model
        model.score_bounds = {c: tuple((b[0], b[1]) for b in bounds) for c, bounds in settings.score_bounds.items()}
        if Path(path).is_dir() and not (Path(path) / EXITS_FILE).is_file():
            raise UserError(f"{path} has no {EXITS_FILE}; {SAVE_ANEW}")
        with hub_errors(f"model {path!r}"):
            state = load_file(str(cached_file(path, EXITS_FILE)))
        check_finite(f"{path}: {EXITS_FILE}", state)
        own = model.state_dict()
        there = {name for name, value in state.items() if value.is_floating_point()}
        wanted = {name for name, value in own.items() if value.is_floating_point()}
        if other := sorted((there ^ wanted) & state.keys() & own.keys()):
            raise UserError(
                f"{path}: {EXITS_FILE}: {first_names(other)} of the type {state[other[0]].dtype}; {SAVE_ANEW}"
            )
        with faults_in(f"{path}: {SPEC_FILE} does not fit {EXITS_FILE}"):
            missing, unexpected = model.load_state_dict(state, strict=False)
        lost = sorted(model._own_state().keys() & set(missing))
        if lost or unexpected:
            parts = {"missing": lost, "unexpected": unexpected}
            found = "; ".join(f"{what} {', '.join(names[:3])}" for what, names in parts.items() if names)
            raise UserError(f"{path}: {EXITS_FILE} does not fit {SPEC_FILE}: {found}; {SAVE_ANEW}")
        return model.eval()

    @abstractmethod
    def try_out(self) -> None:
        """Run a token through all exits; whatever is raised is the fault of the files, as is a UserError."""

    def _own_state(self) -> dict[str, Tensor]:
        """Tensors beside the encoder's; one that exits share has its first name only, as safetensors demands."""
        own: dict[int, tuple[str, Tensor]] = {}
        for name, value in self.state_dict(keep_vars=True).items():  # the tensors themselves have stable ids
            if not name.startswith("encoder."):
                own.setdefault(id(value), (name, value))
        return dict(own.values())
