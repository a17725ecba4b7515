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
from mebert.errors import UserError, check_range
from mebert.exit_predictor.base import ExitPredictor
from mebert.exit_predictor.coverage import Coverage, check_coverage, nearest_coverage
from mebert.exit_predictor.frequency import FrequencyExitPredictor
from mebert.exit_predictor.linear import LinearExitPredictor
from mebert.exit_predictor.tokens import TokenExitPredictor
from mebert.metrics.curve import replay, speedup_layers
from mebert.models.multi_exit import model_inputs
from mebert.models.windows import texts_of
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
        special_ids: `static`: ids of special tokens, which leave at the last exit.
    """

    kind: PredictorKind = "token"
    ngram: int = 1
    coverage: Coverage = "match"
    buckets: int = 2**18
    prior_strength: float = 10.0
    special_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("token", "linear", "static"):
            raise UserError(f"kind must be token, linear or static, got {self.kind!r}")
        if self.kind != "token" and self.ngram != 1:
            raise UserError(f"ngram {self.ngram} belongs to kind token; kind {self.kind} reads no runs of tokens")
        if not isinstance(self.coverage, str):
            check_coverage(self.coverage)
        elif self.coverage != "match":
            raise UserError(f"coverage must be match, a number in (0, 1] or null; got {self.coverage!r}")
        check_range("buckets", self.buckets, 1)
        TokenExitPredictor(1, 1, None, self.ngram, 1, self.prior_strength)  # checks the rest


@dataclass
class ScoredRows:
    """Rows with a policy's scores at every exit (E, N), on the CPU, and the input of a linear head (N, H+1)."""

    rows: TokenisedSplit
    scores: Tensor
    features: Tensor | None = None


def score_batch(
    model: MultiExitModel, policy: ExitPolicy, head: LinearExitPredictor | None, batch: Mapping[str, Tensor]
) -> Tensor:
    """A policy's scores at every exit and, with a head, the head's features: (B, E) or (B, E+H+1) float32."""
    outputs = model(**model_inputs(batch))
    scores = policy.score_exits(outputs.logits, outputs.features, texts_of(batch)[1]).T.float()
    if head is None:
        return scores
    return torch.cat([scores, head.features(*texts_of(batch))], dim=1)


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

    The target `speedup` of the threshold and the name of the `split` are kept in its origin. The coverage `match` is
    chosen on `fresh` rows; without them on the same rows, each without its own counts (the linear head, which has few
    weights, is used as it is).
    """
    taken = replay(scored.scores, policy.threshold)
    if settings.kind == "static":
        wanted = speedup_layers(taken, model.exit_layers) if speedup is None else speedup
        rows = scored.rows if fresh is None else fresh.rows
        return fit_static(
            model, scored.rows, policy, wanted, settings.coverage, speedup, split, rows, settings.special_ids
        )
    tokens, offsets = tokens_of(scored.rows)
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
    if settings.coverage == "match":  # the predicted exits run no more layers than those that the policy took
        if fresh is None and isinstance(predictor, TokenExitPredictor):
            distribution = predictor.leave_one_out(tokens, offsets, taken)
        else:
            distribution = distribution_of(predictor, scored if fresh is None else fresh)
        matched = taken if fresh is None else replay(fresh.scores, policy.threshold)
        predictor.coverage = nearest_coverage(
            distribution, model.exit_layers, speedup_layers(matched, model.exit_layers)
        )
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
        The predictor on the model's device; `save(<model folder>)` stores it with the model.
    """
    chosen = PredictorSettings(**settings)
    if not len(rows):
        raise UserError("fit_predictor: rows is empty")
    predictor: ExitPredictor
    if chosen.kind == "static" and speedup is not None:
        predictor = fit_static(
            model, rows, policy, speedup, chosen.coverage, speedup, split, special_ids=chosen.special_ids
        )
    else:
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
    special_ids: Sequence[int] = (),
) -> FrequencyExitPredictor:
    """A `FrequencyExitPredictor`, on the CPU, that replaces a policy at its threshold.

    It counts the tokens of `rows` and, as HashEE, of other `fresh` rows: no label is needed. The coverage `match` meets
    the `wanted` speed-up by layers on `fresh` rows (None: `rows`). The target `speedup` of the threshold and the name
    of the `split` are kept in its origin.
    """
    counted = [rows] if fresh is None or fresh is rows else [rows, fresh]
    predictor = FrequencyExitPredictor(model.num_exits, int(model.adapter.config.vocab_size))
    predictor.fit(torch.cat([tokens_of(part)[0] for part in counted]), special_ids)
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
        return predictor.distribution(*texts_of(batch))

    return map_rows(scored.rows, partial(collate, pad_token_id=0), distribution, batch_size, torch.device("cpu"))
