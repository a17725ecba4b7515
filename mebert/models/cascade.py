"""A cascade: whole models, small ones first, each an exit of the cascade.

Source: Li et al., "CascadeBERT: Accelerating Inference of Pre-trained Language Models via Calibrated Complete Models
Cascade", Findings of EMNLP 2021; what is taken over stands in docs/methods.md.
Shapes: E models, B batch, S tokens, C classes, F feature (of the widest model), N samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from mebert.errors import UserError
from mebert.models.encoder import EncoderAdapter
from mebert.models.heads import ExitHead
from mebert.models.layer_state import LayerState
from mebert.models.multi_exit import MultiExitModel
from mebert.models.windows import mean_of_windows
from mebert.storage.hub import hub_errors
from mebert.storage.model_folder import saved_model_folder
from mebert.storage.model_spec import ModelSpec
from mebert.storage.trusted_classes import class_path_of


class CascadeAdapter(EncoderAdapter):
    """Carries a batch's token ids and segment ids to whichever model runs next, in the place of hidden states.

    Args:
        members: The models of the cascade.
    """

    def __init__(self, members: Sequence[MultiExitModel]) -> None:
        super().__init__(members[0].adapter.encoder)
        self.first = members[0].adapter
        self.longest = min(member.adapter.max_length for member in members)

    @property
    @override
    def max_length(self) -> int:
        return self.longest

    @override
    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        return self.first.embed(input_ids, token_type_ids)

    @override
    def start(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> LayerState:
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        return LayerState(torch.stack([input_ids, segments], -1), attention_mask, None)

    @override
    def layer_mask(self, hidden: Tensor, attention_mask: Tensor) -> None:
        return None


class CascadeModel(MultiExitModel):
    """Whole models behind the protocol of one: exit i is the last exit of model i, which reads the text from its start.

    Engines, policies, the sweep and the calibration take it as any other model. Leaving at exit i has cost all models
    up to it, or model i alone where no other was asked (a fixed or a predicted exit). The plain model is the last one
    alone: FLOPs and wall clock count against it. Speed-ups by layers count against all models run in turn.

    Args:
        members: Trained models of one task and one tokenizer, in the order in which they run, the largest last.

    Raises:
        UserError: Fewer than two, or their labels or vocabularies differ.
    """

    def __init__(self, members: Sequence[MultiExitModel]) -> None:
        nn.Module.__init__(self)  # the parts of a single model are the members'
        _check(members)
        self.members = nn.ModuleList(members)
        self.adapter = CascadeAdapter(members)
        self.num_labels, self.problem_type = members[0].num_labels, members[0].problem_type
        self.label_names = list(members[0].label_names)
        if all(member.exit_temperatures for member in members):
            self.exit_temperatures = tuple(member.exit_temperatures[-1] for member in members)
        self.exit_layers = tuple(accumulate(member.num_layers for member in members))
        self.prototypes = None
        self.exit_scorer = None

    @classmethod
    def from_folders(cls, folders: Sequence[str | Path]) -> CascadeModel:
        """A cascade of saved models, in evaluation mode.

        Args:
            folders: Folders (runs, or their folders `model`) or Hub ids, in the order in which the models run.

        Raises:
            UserError: One cannot be opened, or they do not fit together.
        """
        names = [_own_folder(str(folder)) for folder in folders]
        _check_tokenizers(names)
        return cls([MultiExitModel.from_pretrained(name) for name in names]).eval()

    @property
    @override
    def num_layers(self) -> int:
        return self.member(self.num_exits - 1).num_layers

    @property
    @override
    def feature_size(self) -> int:
        return max(self.member(index).feature_size for index in range(self.num_exits))

    def member(self, index: int) -> MultiExitModel:
        """The model with this 0-based index."""
        model: MultiExitModel = self.members[index]  # type: ignore[assignment]
        return model

    @override
    def exit(self, exit_index: int) -> ExitHead:
        member = self.member(exit_index)
        return member.exit(member.num_exits - 1)

    @override
    def step(self, state: LayerState, exit_index: int) -> tuple[LayerState, Tensor, Tensor]:
        """Run one model from its start; those before it that did not run are not needed. Features are filled with 0."""
        member = self.member(exit_index)
        input_ids, token_type_ids = state.hidden.unbind(-1)
        inner = member.start(input_ids, state.attention_mask, token_type_ids)
        _, logits, feature = member.step(inner, member.num_exits - 1)
        feature = F.pad(feature, (0, self.feature_size - feature.shape[-1]))
        state = replace(state, depth=self.exit_layers[exit_index])
        return state, mean_of_windows(logits, state.windows), mean_of_windows(feature, state.windows)

    @override
    def sequential_exit_flops(self, lengths: Tensor) -> Tensor:
        return self.direct_exit_flops(lengths).cumsum(0)

    @override
    def direct_exit_flops(self, lengths: Tensor) -> Tensor:
        return torch.stack([self.member(index).direct_exit_flops(lengths)[-1] for index in range(self.num_exits)])

    @override
    def spec(self) -> ModelSpec:
        """What the cascade is, for its `exits.json` above the folders of its models.

        Raises:
            UserError: It has prototypes or a learning-to-exit head, which cannot be saved.
        """
        for name in ("prototypes", "exit_scorer"):
            if getattr(self, name) is not None:
                raise UserError(f"a cascade is saved without {name}: set its {name} to None, and take another policy")
        return ModelSpec(
            model=class_path_of(type(self)),
            num_labels=self.num_labels,
            problem_type=self.problem_type,
            label_names=self.label_names,
            exit_layers=list(self.exit_layers),
            members=[f"model_{index + 1}" for index in range(self.num_exits)],
        )

    @override
    def save_parts(self, folder: Path) -> None:
        for index, name in enumerate(self.spec().members or []):
            self.member(index).save_pretrained(folder / name)

    @classmethod
    @override
    def from_settings(cls, path: str, settings: ModelSpec) -> Self:
        if settings.members is None or not Path(path).is_dir():
            raise UserError(f"{path} is no folder of a cascade, as CascadeModel.save_pretrained writes it")
        return cls([MultiExitModel.from_pretrained(Path(path) / Path(name).name) for name in settings.members]).eval()


def _check(members: Sequence[MultiExitModel]) -> None:
    if len(members) < 2:
        raise UserError(f"a cascade needs at least 2 models, got {len(members)}")
    first = members[0]
    for number, member in enumerate(members[1:], start=2):
        if member.label_names != first.label_names:
            raise UserError(
                f"the models of a cascade must have the same labels in the same order: model 1 has "
                f"{', '.join(first.label_names)}, and model {number} has {', '.join(member.label_names)}"
            )
        if member.problem_type != first.problem_type:
            raise UserError(
                f"the models of a cascade must answer the same: model 1 is for {first.problem_type}, model {number} "
                f"for {member.problem_type}"
            )
        sizes = first.adapter.config.vocab_size, member.adapter.config.vocab_size
        if sizes[0] != sizes[1]:
            raise UserError(
                f"the models of a cascade must have one vocabulary: model 1 has {sizes[0]} tokens, and model {number} "
                f"has {sizes[1]}"
            )


def _own_folder(model: str) -> str:
    found = saved_model_folder(model)
    if found is None:
        raise UserError(f"{model} holds no saved mebert model; give a run or its folder model, as `fit` writes them")
    return found


def _check_tokenizers(names: Sequence[str]) -> None:
    """Token ids are the same for all: vocabularies must agree token by token, and so must the settings."""
    from transformers import AutoTokenizer

    found = []
    for name in names:
        with hub_errors(f"the tokenizer of {name!r}"):
            one = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        # The normalizer decides on lower-casing; tokenizers in Python have a setting.
        lowers, backend = getattr(one, "do_lower_case", None), getattr(one, "backend_tokenizer", None)
        normalizer = lowers if backend is None else json.loads(backend.to_str())["normalizer"]
        found.append((one.get_vocab(), normalizer, one.truncation_side, one.split_special_tokens))
    for name, own in zip(names, found, strict=True):
        if own != found[0]:
            raise UserError(
                f"the tokenizers of {names[0]} and {name} differ (vocabulary, lower-casing, truncation_side or "
                "split_special_tokens); the models of a cascade must share one"
            )
