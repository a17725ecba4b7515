"""The exit that an exit predictor (GEEP's exit-layer prediction) names for a text, and for each of its tokens alone.

Shapes: S tokens, E exits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mebert.errors import UserError
from mebert.exit_predictor import ExitPredictor, PredictorOrigin, choose_exits, choose_predictor
from mebert.policies import ExitPolicy

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mebert.commands.inspect.source import Opened
    from mebert.commands.inspect.trace import TextTrace


@dataclass(frozen=True)
class TokenNote:
    """One token, and the prediction for a text of this token alone; None where tokens are not judged one by one."""

    text: str
    special: bool  # one of the tokenizer's own ([CLS], [SEP], ...), which counts like any other
    exit: int | None  # from 1
    layer: int | None
    counted: int  # occurrences in fitting; with 0, the prediction is the one for any text
    distribution: list[float]  # over exits, (E,) or empty


@dataclass(frozen=True)
class TokenView:
    """A text as an exit predictor of the class `kind` sees it."""

    kind: str
    reads: str  # what its distribution is made of, in words
    coverage: float | None  # the first exit whose cumulative share reaches it is predicted; None: the likeliest exit
    origin: PredictorOrigin | None  # the policy whose exits it was fitted to, if known
    tokens: list[TokenNote]
    distribution: list[float]  # of the text over exits, (E,)
    exit: int  # the predicted one, from 1
    layer: int
    longest_run: int = 1  # of tokens that count together

    @property
    def cumulative(self) -> list[float]:
        """Share of the distribution up to each exit, (E,)."""
        return torch.tensor(self.distribution).cumsum(0).tolist()

    @property
    def rule(self) -> str:
        """How the exit follows from the distribution, in words."""
        if self.coverage is None:
            return f"the likeliest exit is {self.exit}"
        reached = self.cumulative[self.exit - 1]
        return f"exit {self.exit} is the first with a cumulative share ({reached:.0%}) of at least {self.coverage:.1%}"

    @property
    def source(self) -> str:
        """What the distribution is made of, as the beginning of a sentence."""
        runs = "" if self.longest_run == 1 else f" (runs of up to {self.longest_run} tokens count, too)"
        return f"{self.reads[0].upper()}{self.reads[1:]}{runs}"

    @property
    def by_token(self) -> bool:
        """Whether tokens are judged one by one."""
        return any(note.exit is not None for note in self.tokens)


def find_predictor(opened: Opened, policy: ExitPolicy) -> tuple[ExitPredictor | None, str]:
    """The predictor of the policy's exits, if the model has one, and a note if it has only others."""
    predictors = opened.classifier.predictors
    try:
        return (choose_predictor(predictors, policy), "") if predictors else (None, "")
    except UserError as error:
        return None, f"No token view: {str(error).removeprefix('engine predicted: ')}."


@torch.inference_mode()
def view_tokens(opened: Opened, predictor: ExitPredictor, trace: TextTrace) -> TokenView:
    """The prediction for a traced text and its tokens, as in the engine `predicted`; special tokens are read, too."""
    tokenizer, layers = opened.classifier.tokenizer, opened.model.exit_layers
    ids = torch.tensor(trace.input_ids, device=opened.classifier.device)
    row = ids.unsqueeze(0)
    distribution = predictor.distribution(row, torch.ones_like(row))
    predicted = int(choose_exits(distribution, predictor.coverage)[0])
    special = tokenizer.get_special_tokens_mask(trace.input_ids, already_has_special_tokens=True)
    evidence = predictor.of_tokens(ids)
    notes = []
    for place, (token, is_special) in enumerate(zip(trace.input_ids, special, strict=True)):
        text, own = _written(tokenizer, token), bool(is_special) and token != tokenizer.unk_token_id
        note = TokenNote(text, own, None, None, 0, [])
        if evidence is not None:
            index = int(choose_exits(evidence.distribution[place : place + 1], predictor.coverage)[0])
            shares = evidence.distribution[place].tolist()
            note = TokenNote(text, own, index + 1, layers[index], int(evidence.counted[place]), shares)
        notes.append(note)
    return TokenView(
        kind=type(predictor).__name__,
        reads=predictor.reads,
        coverage=predictor.coverage,
        origin=predictor.origin,
        tokens=notes,
        distribution=distribution[0].tolist(),
        exit=predicted + 1,
        layer=layers[predicted],
        longest_run=int(getattr(predictor, "ngram", 1)),
    )


def _written(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A readable token, also of tokenizers whose tokens are bytes or begin with a mark for a space."""
    own = str(tokenizer.convert_ids_to_tokens(token))
    return own if own.startswith(("##", "[", "<")) else str(tokenizer.decode([token])).strip() or own
