"""The shared multi-exit model: one encoder, an exit head after some or all of its layers.

Shapes: B batch, S tokens, H hidden, F feature, C classes, E exits, L layers. E = L without `exit_layers`;
F = H unless the pooling is `fastbert`. A multi-label model has (..., C, 2) where others have logits (..., C).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from mebert.choices import HeadKind, PoolingKind, ProblemType
from mebert.errors import UserError
from mebert.models.families import adapter_for, build_encoder
from mebert.models.heads import ExitHead, feature_size_of
from mebert.models.hf_classifier import unlike_hugging_face
from mebert.models.layer_state import LayerState
from mebert.models.pretrained import PretrainedModel
from mebert.models.prototypes import PrototypeBank
from mebert.models.windows import flat_windows, mean_of_windows, places_of_windows
from mebert.storage.json_values import faults_in
from mebert.storage.model_folder import SPEC_FILE
from mebert.storage.model_spec import ModelSpec
from mebert.storage.spec_parts import PrototypeSpec, check_label_names, checked_problem_type
from mebert.storage.trusted_classes import class_path_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The part of a batch that the model reads."""
    return {name: batch[name] for name in INPUT_NAMES if name in batch}


@dataclass
class ExitOutputs:
    """The output of all exits for a batch.

    Attributes:
        logits: (E, B, C), float32; of a multi-label model (E, B, C, 2), for each label those of no and yes.
        features: What each exit pooled, (E, B, F).
    """

    logits: Tensor
    features: Tensor


class MultiExitModel(PretrainedModel):
    """One encoder with an exit head after each of its `exit_layers`.

    Args:
        encoder: A Hugging Face base model of a supported family.
        num_labels: C; 1 means regression, as in Hugging Face.
        exit_layers: The layers (1-based, increasing) with an exit; the last layer must be among them. None: all.
        pooling: What every exit reads.
        head: How every exit classifies.
        head_dropout: Dropout rate in the heads.
        label_names: C names; None gives LABEL_0, LABEL_1, ...
        prototypes: DE3-BERT's prototypes, for the policies that use them.
        exit_scorer: BERxiT's learning-to-exit head, Linear(F -> 1), one for all exits, for the policy that uses it.
        problem_type: What a label is, as in Hugging Face; None: by `num_labels` one class, or a number.

    Inputs (B, W, S) are texts in W windows: logits and features are the mean over a text's windows.

    Raises:
        UserError: `exit_layers` do not fit the encoder, its family is not supported, or `problem_type` not
            `num_labels`.
    """

    def __init__(
        self,
        encoder: PreTrainedModel,
        num_labels: int = 2,
        exit_layers: Sequence[int] | None = None,
        pooling: PoolingKind = "cls",
        head: HeadKind = "mlp",
        head_dropout: float = 0.1,
        label_names: Sequence[str] | None = None,
        prototypes: PrototypeBank | None = None,
        exit_scorer: nn.Linear | None = None,
        problem_type: ProblemType | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.adapter = adapter_for(encoder)
        self.num_labels = num_labels
        self.exit_layers = _checked_exit_layers(exit_layers, self.adapter.num_layers)
        self.pooling: PoolingKind = pooling
        self.head: HeadKind = head
        self.head_dropout = head_dropout
        if num_labels < 1:
            raise UserError(f"num_labels must be at least 1 (1 means regression), got {num_labels}")
        self.problem_type = checked_problem_type(problem_type, num_labels)
        names = [f"LABEL_{i}" for i in range(num_labels)] if label_names is None else label_names
        self.label_names = [str(name) for name in names]
        check_label_names(self.label_names, num_labels)
        self.exits = nn.ModuleList(self.make_head() for _ in self.exit_layers)
        if head == "shared":
            for index in range(1, self.num_exits):
                self.exit(index).classifier[0] = self.exit(0).classifier[0]
        self.prototypes = prototypes
        self.exit_scorer = exit_scorer

    def make_head(self) -> ExitHead:
        """The head of one exit; a model whose exits classify otherwise overrides it."""
        sizes = self.hidden_size, self.num_labels
        return ExitHead(*sizes, self.pooling, self.head, self.head_dropout, self.multi_label)

    @property
    def multi_label(self) -> bool:
        """Whether a row has a set of labels, so that logits are (..., C, 2)."""
        return self.problem_type == "multi_label_classification"

    @property
    def logits_shape(self) -> tuple[int, ...]:
        """The shape of one row's logits at one exit: (C,) or (C, 2)."""
        return (self.num_labels, 2) if self.multi_label else (self.num_labels,)

    @property
    def num_layers(self) -> int:
        return self.adapter.num_layers

    @property
    def num_exits(self) -> int:
        return len(self.exit_layers)

    @property
    def hidden_size(self) -> int:
        return self.adapter.hidden_size

    @property
    def feature_size(self) -> int:
        """Width F of what an exit pools."""
        return self.exit(0).feature_size

    def exit(self, exit_index: int) -> ExitHead:
        """The head of the exit with this 0-based index."""
        head: ExitHead = self.exits[exit_index]  # type: ignore[assignment]
        return head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> ExitOutputs:
        """All exits of a batch.

        Args:
            input_ids: (B, S) int64; texts in windows (B, W, S), as are the other two.
            attention_mask: (B, S), 1 for a token and 0 for padding.
            token_type_ids: (B, S) or None.
        """
        _, logits, features = zip(*self.forward_layers(input_ids, attention_mask, token_type_ids), strict=True)
        return ExitOutputs(torch.stack(logits), torch.stack(features))

    def forward_layers(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Exit by exit, so that the caller may stop: yields (exit index, logits (B, C), features (B, F))."""
        state = self.start(input_ids, attention_mask, token_type_ids)
        for exit_index in range(self.num_exits):
            state, logits, feature = self.step(state, exit_index)
            yield exit_index, logits, feature

    def start(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> LayerState:
        """Embed a batch; nothing of the layers has run."""
        inputs, windows = flat_windows(input_ids, attention_mask, token_type_ids)
        state = self.adapter.start(*inputs)
        return state if windows is None else replace(state, windows=windows)

    def step(self, state: LayerState, exit_index: int) -> tuple[LayerState, Tensor, Tensor]:
        """Run up to an exit, the next or a later one: returns the new state, its logits (B, C) and features (B, F)."""
        state = self.adapter.advance(state, self.exit_layers[exit_index])
        return state, *self.ask(state, exit_index)

    def ask(self, state: LayerState, exit_index: int) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and features (B, F) of an exit from hidden states, whatever their layer."""
        head = self.exit(exit_index)
        feature = self.adapter.pool(state, head)
        return mean_of_windows(head.classify(feature), state.windows), mean_of_windows(feature, state.windows)

    def keep(self, state: LayerState, texts: Tensor) -> LayerState:
        """The same state for some texts only, with all their windows: their numbers, (B',) int64, on any device."""
        if state.windows is None:
            return state.keep(texts)
        chosen = texts.cpu().numpy()
        kept = state.keep(torch.from_numpy(places_of_windows(state.windows, chosen)))
        return replace(kept, windows=state.windows[chosen])

    def join(self, states: Sequence[LayerState]) -> LayerState:
        """The texts of several states (at least one) of one depth as one state."""
        joined = self.adapter.join(states)
        if len(states) == 1 or all(state.windows is None for state in states):
            return joined
        counts = [np.ones(len(s.attention_mask), np.int64) if s.windows is None else s.windows for s in states]
        return replace(joined, windows=np.concatenate(counts))

    def last_exit(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits (B, C) of the last exit alone: the plain model without early exits."""
        return self.step(self.start(input_ids, attention_mask, token_type_ids), self.num_exits - 1)[1]

    @override
    @torch.no_grad()
    def try_out(self) -> None:
        token = torch.zeros(1, 1, dtype=torch.long)
        found = self(token, torch.ones_like(token)).logits
        if found.shape != (self.num_exits, 1, *self.logits_shape) or not bool(found.isfinite().all()):
            raise UserError("its exits do not give a finite number for each label: a value or a weight is wrong")

    def head_flops(self, exit_index: int, tokens: Tensor) -> Tensor:
        """Counted cost of asking an exit, for inputs of `tokens` tokens, (N,); the layers are not in it."""
        return self.exit(exit_index).flops(tokens)

    def skipped_exit_flops(self, exit_index: int, tokens: Tensor) -> Tensor:
        """Counted cost of going past an exit that is not asked, (N,): nothing, unless later exits look back at it."""
        return torch.zeros_like(tokens)

    def sequential_exit_flops(self, lengths: Tensor) -> Tensor:
        """Counted cost of leaving at each exit where all exits up to it are asked: tokens (N,) to (E, N) float64."""
        heads = torch.stack([self.head_flops(index, lengths.double()) for index in range(self.num_exits)])
        return self._layers_flops(lengths) + heads.cumsum(0)

    def direct_exit_flops(self, lengths: Tensor) -> Tensor:
        """Counted cost of leaving at each exit if no earlier exit is computed: tokens (N,) to (E, N) float64."""
        s, exits = lengths.double(), range(self.num_exits)
        passed = torch.stack([self.skipped_exit_flops(index, s) for index in exits])
        heads = torch.stack([self.head_flops(index, s) for index in exits])
        return self._layers_flops(lengths) + passed.cumsum(0) - passed + heads

    def _layers_flops(self, lengths: Tensor) -> Tensor:
        return torch.stack([self.adapter.flops(lengths, depth) for depth in self.exit_layers])

    @override
    def encoder_in_words(self) -> str:
        adapter = self.adapter
        return f"{adapter.config.model_type}, {adapter.num_layers} layers of width {adapter.hidden_size}"

    @override
    def last_head(self) -> ExitHead:
        return self.exit(self.num_exits - 1)

    @override
    def hugging_face_fault(self) -> str | None:
        steps = ("start", "step", "ask", "last_exit")
        own = all(getattr(type(self), name) is getattr(MultiExitModel, name) for name in steps)
        if not own or type(self.last_head()) is not ExitHead:
            return f"{type(self).__name__} computes its last exit in a way of its own"
        return unlike_hugging_face(self.adapter.config.model_type, self.pooling, self.head)

    @override
    def spec(self) -> ModelSpec:
        bank = self.prototypes
        return ModelSpec(
            model=class_path_of(type(self)),
            num_labels=self.num_labels,
            problem_type=self.problem_type,
            label_names=self.label_names,
            exit_layers=list(self.exit_layers),
            pooling=self.pooling,
            head=self.head,
            head_dropout=self.head_dropout,
            prototypes=None if bank is None else PrototypeSpec(dim=bank.dim, gamma=bank.gamma),
            exit_scorer=self.exit_scorer is not None,
        )

    @classmethod
    @override
    def build(cls, path: str, spec: ModelSpec) -> Self:
        encoder = build_encoder(path, own_head=True)
        pooling, head = spec.pooling or "cls", spec.head or "mlp"
        size, bank = feature_size_of(pooling, encoder.config.hidden_size), None
        if spec.prototypes is not None:
            dim, gamma = spec.prototypes.dim, spec.prototypes.gamma
            bank = PrototypeBank(len(spec.exit_layers) - 1, size, spec.num_labels, dim, gamma)
        with faults_in(str(Path(path) / SPEC_FILE)):
            return cls(
                encoder,
                num_labels=spec.num_labels,
                exit_layers=spec.exit_layers,
                pooling=pooling,
                head=head,
                head_dropout=0.1 if spec.head_dropout is None else spec.head_dropout,
                label_names=spec.label_names,
                prototypes=bank,
                exit_scorer=nn.Linear(size, 1) if spec.exit_scorer else None,
                **({"problem_type": spec.problem_type} if spec.problem_type == "multi_label_classification" else {}),
            )


def _checked_exit_layers(exit_layers: Sequence[int] | None, num_layers: int) -> tuple[int, ...]:
    layers = tuple(range(1, num_layers + 1)) if exit_layers is None else tuple(exit_layers)
    increasing = all(a < b for a, b in pairwise(layers))
    if not layers or not increasing or layers[0] < 1 or layers[-1] != num_layers:
        raise UserError(
            f"exit_layers must be increasing layer numbers from 1 to {num_layers} that end with {num_layers}, "
            f"the encoder's last layer; got {list(layers)}"
        )
    return layers
