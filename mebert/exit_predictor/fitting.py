"""Fit predictors to the exits that a policy takes on a split; one pass serves any number of thresholds.

Shapes: N rows, E exits, B batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from mebert.data.scoring import evaluation_mode, map_rows
from mebert.data.tokenised import TokenisedSplit, collate
from mebert.errors import UserError
from mebert.exit_predictor.base import ExitPredictor
from mebert.exit_predictor.coverage import Coverage, check_coverage, nearest_coverage
from mebert.exit_predictor.frequency import FrequencyExitPredictor
from mebert.exit_predictor.linear import LinearExitPredictor
from mebert.exit_predictor.tokens import TokenExitPredictor
from mebert.metrics.curve import replay, speedup_layers
from mebert.models.multi_exit import model_inputs
from mebert.storage.predictor_spec import PredictorOrigin

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy

PredictorKind = Literal["token", "linear", "static"]


@dataclass(frozen=True)
class PredictorSettings:
    """Settings of predictors.

    Attributes:
        kind: `token`, GEEP's table; `linear`, a head on the embedding output; or `static`, exits by the frequency of
            tokens, which is not fitted to the policy.
        ngram: Longest run of tokens in the table.
        coverage: How a distribution becomes one exit: None takes the most probable, a number in (0, 1] the smallest
            exit whose cumulative mass reaches it, and `match` the number at which the predicted exits are as fast as
            those that the policy took (`static`: as fast as requested).
        buckets: Rows of the table for runs of 2 and more tokens.
        prior_strength: Weight of the shares of all samples, in occurrences of a token.
    """

    kind: PredictorKind = "token"
    ngram: int = 1
    coverage: Coverage = "match"
    buckets: int = 2**18
    prior_strength: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in ("token", "linear", "static"):
            raise UserError(f"kind must be token, linear or static, got {self.kind!r}")
        if self.kind != "token" and self.ngram != 1:
            raise UserError(f"ngram {self.ngram} belongs to kind token; kind {self.kind} reads no runs of tokens")
        if isinstance(self.coverage, str):
            if self.coverage != "match":
                raise UserError(f"coverage must be match, a number in (0, 1] or null; got {self.coverage!r}")
        else:
            check_coverage(self.coverage)
        if self.buckets < 1:
            raise UserError(f"buckets must be at least 1, got {self.buckets}")
        TokenExitPredictor(1, 1, None, self.ngram, 1, self.prior_strength)  # checks the rest


@dataclass
class ScoredRows:
    """Rows with a policy's scores.

    Attributes:
        rows: N rows.
        scores: The policy's scores at every exit, (E, N), on the CPU.
        features: Input of the linear head, (N, H+1); None for other kinds.
    """

    rows: TokenisedSplit
    scores: Tensor
    features: Tensor | None = None

    @property
    def tokens(self) -> tuple[Tensor, Tensor]:
        """Concatenated token ids of all rows, and where each row starts, (N+1,)."""
        return tokens_of(self.rows)


def score_batch(
    model: MultiExitModel, policy: ExitPolicy, head: LinearExitPredictor | None, batch: Mapping[str, Tensor]
) -> Tensor:
    """A policy's scores at every exit and, with a head, the head's features: (B, E) or (B, E+H+1) float32."""
    outputs = model(**model_inputs(batch))
    scores = policy.score_exits(outputs.logits, outputs.features, batch["attention_mask"]).T.float()
    if head is None:
        return scores
    return torch.cat([scores, head.features(batch["input_ids"], batch["attention_mask"])], dim=1)


def as_scored(rows: TokenisedSplit, values: Tensor, num_exits: int) -> ScoredRows:
    """The rows with the values of `score_batch` for all of them, (N, ...)."""
    features = values[:, num_exits:].contiguous() if values.shape[1] > num_exits else None
    return ScoredRows(rows, values[:, :num_exits].T.contiguous(), features)


def score_rows(
    model: MultiExitModel, policy: ExitPolicy, rows: TokenisedSplit, kind: PredictorKind = "token", batch_size: int = 64
) -> ScoredRows:
    """Run all exits on all rows and keep the policy's scores."""
    head = LinearExitPredictor(model.num_exits, model.adapter.hidden_size).bind(model) if kind == "linear" else None
    device = next(model.parameters()).device
    pad = partial(collate, pad_token_id=int(getattr(model.adapter.config, "pad_token_id", 0) or 0))
    with evaluation_mode(model):
        values = map_rows(rows, pad, partial(score_batch, model, policy, head), batch_size, device)
    return as_scored(rows, values, model.num_exits)


def fit_from_scores(
    model: MultiExitModel,
    scored: ScoredRows,
    policy: ExitPolicy,
    settings: PredictorSettings,
    speedup: float | None = None,
    split: str = "",
    fresh: ScoredRows | None = None,
) -> ExitPredictor:
    """A predictor of the exits that a policy took at its threshold, on the CPU and bound to the model.

    Args:
        model: The multi-exit model.
        scored: The rows that it is fitted to.
        policy: At the threshold in question.
        settings: Kind and its settings.
        speedup: The target for which the threshold was chosen, for the origin.
        split: Name of the split, for the origin.
        fresh: Other rows, to choose the coverage `match` on. None: the same rows, each without its own counts (the
            linear head, which has few weights, is used as it is).
    """
    taken = replay(scored.scores, policy.threshold)
    if settings.kind == "static":
        wanted = speedup_layers(taken, model.exit_layers) if speedup is None else speedup
        rows = scored.rows if fresh is None else fresh.rows
        return fit_static(model, scored.rows, policy, wanted, settings.coverage, speedup, split, rows)
    tokens, offsets = scored.tokens
    predictor: ExitPredictor
    if settings.kind == "token":
        vocabulary = int(model.adapter.config.vocab_size)
        predictor = TokenExitPredictor(
            model.num_exits, vocabulary, None, settings.ngram, settings.buckets, settings.prior_strength
        ).fit(tokens, offsets, taken)
    else:
        assert scored.features is not None
        head = LinearExitPredictor(model.num_exits, model.adapter.hidden_size)
        predictor = head.fit(scored.features, taken).bind(model)
    predictor.origin = PredictorOrigin(policy.name, policy.threshold, speedup, split, len(taken))
    if settings.coverage == "match":
        predictor.coverage = _matching_coverage(model, predictor, policy, scored, taken, fresh)
    else:
        predictor.coverage = settings.coverage
    return predictor.eval()


def fit_predictor(
    model: MultiExitModel,
    policy: ExitPolicy,
    rows: TokenisedSplit,
    batch_size: int = 64,
    speedup: float | None = None,
    split: str = "",
    **settings: Any,
) -> ExitPredictor:
    """Run a policy of a trained model on rows and fit a predictor to the exits that it takes.

    With `kind="static"` and a `speedup` nothing is run: the exits have that speed-up, whatever the policy takes.
    For several thresholds, call `score_rows` once and `fit_from_scores` for each.

    Args:
        model: The multi-exit model.
        policy: Bound to it, at the threshold in question.
        rows: Tokenised rows; labels are not needed.
        batch_size: Rows a batch.
        speedup: The target for which the threshold was chosen, for the origin.
        split: Name of the split, for the origin.
        settings: As in `PredictorSettings`.

    Returns:
        On the model's device; `save(<model folder>)` stores it with the model.
    """
    chosen = PredictorSettings(**settings)
    if not len(rows):
        raise UserError("fit_predictor: rows is empty")
    if chosen.kind == "static" and speedup is not None:
        static = fit_static(model, rows, policy, speedup, chosen.coverage, speedup, split)
        return static.to(next(model.parameters()).device)
    scored = score_rows(model, policy, rows, chosen.kind, batch_size)
    predictor = fit_from_scores(model, scored, policy, chosen, speedup, split)
    return predictor.to(next(model.parameters()).device)


def fit_static(
    model: MultiExitModel,
    rows: TokenisedSplit,
    policy: ExitPolicy,
    wanted: float,
    coverage: Coverage = "match",
    speedup: float | None = None,
    split: str = "",
    fresh: TokenisedSplit | None = None,
) -> FrequencyExitPredictor:
    """A `FrequencyExitPredictor` with a wanted speed-up, on the CPU.

    Args:
        model: For its exits and its vocabulary.
        rows: Rows whose tokens are counted; labels are not needed.
        policy: The policy that it replaces, at its threshold.
        wanted: Speed-up by layers that the coverage `match` meets.
        coverage: `match`, or as in `ExitPredictor`.
        speedup: The target for which the threshold was chosen, for the origin.
        split: Name of the split, for the origin.
        fresh: Rows on which `match` meets the speed-up; None: `rows`.
    """
    tokens, _ = tokens_of(rows)
    predictor = FrequencyExitPredictor(model.num_exits, int(model.adapter.config.vocab_size)).fit(tokens)
    predictor.origin = PredictorOrigin(policy.name, policy.threshold, speedup, split, len(rows))
    if coverage == "match":
        shares = predictor.distribution_of_rows(*tokens_of(rows if fresh is None else fresh))
        predictor.coverage = nearest_coverage(shares, model.exit_layers, wanted)
    else:
        predictor.coverage = coverage
    return predictor.eval()


def tokens_of(rows: TokenisedSplit) -> tuple[Tensor, Tensor]:
    """Token ids of all rows, one after the other, and where each row starts, (N+1,); int64."""
    offsets = torch.from_numpy(np.asarray(rows.offsets, dtype=np.int64))
    return torch.from_numpy(np.asarray(rows.tokens, dtype=np.int64)), offsets


def distribution_of(predictor: ExitPredictor, scored: ScoredRows, batch_size: int = 512) -> Tensor:
    """The distributions over exits that a predictor gives for rows, (N, E) float32."""
    if isinstance(predictor, LinearExitPredictor) and scored.features is not None:
        return (scored.features @ predictor.weight.T + predictor.bias).softmax(-1)

    def distribution(batch: Mapping[str, Tensor]) -> Tensor:
        return predictor.distribution(batch["input_ids"], batch["attention_mask"])

    return map_rows(scored.rows, partial(collate, pad_token_id=0), distribution, batch_size, torch.device("cpu"))


def _matching_coverage(
    model: MultiExitModel,
    predictor: ExitPredictor,
    policy: ExitPolicy,
    scored: ScoredRows,
    taken: Tensor,
    fresh: ScoredRows | None,
) -> float | None:
    """The coverage at which predicted exits run no more layers than those that the policy took."""
    if fresh is not None:
        taken = replay(fresh.scores, policy.threshold)
        distribution = distribution_of(predictor, fresh)
    elif isinstance(predictor, TokenExitPredictor):
        distribution = predictor.leave_one_out(*scored.tokens, taken)
    else:
        distribution = distribution_of(predictor, scored)
    layers: Sequence[int] = model.exit_layers
    target = speedup_layers(taken, layers)
    return nearest_coverage(distribution, layers, target)
