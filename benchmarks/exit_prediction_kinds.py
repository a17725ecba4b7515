"""Predictors of exits from tokens, for benchmarks/exit_prediction.py: GEEP's table and its relatives.

Each is a function (rows to fit on, their exits (N,), rows to predict, size of the vocabulary) -> distribution (N, E).
Shapes: N rows, E exits, V vocabulary, C classes, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict
from torch import Tensor

from mebert.data.tokenised import TokenisedSplit
from mebert.exit_predictor.fitting import tokens_of
from mebert.exit_predictor.ngrams import hash_runs
from mebert.exit_predictor.tokens import TokenExitPredictor


@dataclass
class Rows:
    """Rows after a pass: logits (E, N, C), labels (N,), entropy (E, N), mean embeddings (N, H)."""

    split: TokenisedSplit
    logits: Tensor
    labels: Tensor
    entropy: Tensor
    embedded: Tensor

    def right(self, exits: Tensor) -> Tensor:
        """Whether the answers at exits (N,) are right, (N,) float64."""
        return (self.logits[exits, torch.arange(len(exits))].argmax(-1) == self.labels).double()

    def point(self, exits: Tensor, layers: list[int]) -> tuple[float, Tensor]:
        """The share of the layers run at exits (N,), and which answers are right."""
        return float(torch.tensor(layers, dtype=torch.float64)[exits].mean()) / layers[-1], self.right(exits)


def counts(rows: Rows, vocabulary: int, ngram: int = 1, buckets: int = 2**18) -> Any:
    """How often each token, and each hashed run of up to `ngram`, occurs in each row: a sparse (N, V + buckets)."""
    tokens, offsets = tokens_of(rows.split)
    owner = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
    keys, owners = [tokens], [owner]
    for n in range(2, ngram + 1):
        inside = owner[: len(owner) - n + 1] == owner[n - 1 :]
        keys.append((vocabulary + hash_runs(tokens, n, buckets))[inside])
        owners.append(owner[: len(inside)][inside])
    key, row = torch.cat(keys).numpy(), torch.cat(owners).numpy()
    width = vocabulary + (buckets if ngram > 1 else 0)
    return csr_matrix((np.ones(len(key)), (row, key)), shape=(len(rows.split), width))


def shares(fit: Any, exits: Tensor, num_exits: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """The table of `TokenExitPredictor`, (V, E), from counts (N, V); and the shares of all texts (E,)."""
    one = np.eye(num_exits)[exits.numpy()]
    general = one.mean(0)
    total = np.asarray(fit.T @ one)
    return (total + strength * general) / (total.sum(1, keepdims=True) + strength), general


def normalised(values: np.ndarray) -> Tensor:
    """Rows (N, E) that sum to 1."""
    return torch.from_numpy(values / values.sum(1, keepdims=True))


def table(fit: Rows, exits: Tensor, new: Rows, vocabulary: int, ngram: int = 1, strength: float = 10.0) -> Tensor:
    """GEEP's table as `mebert` has it: the mean over tokens of the exits taken by texts with the token."""
    predictor = TokenExitPredictor(len(fit.logits), vocabulary, ngram=ngram, prior_strength=strength)
    predictor.fit(*tokens_of(fit.split), exits)
    each = counts(new, vocabulary, ngram)
    return normalised(each @ predictor.table[:-2].double().numpy())


def idf_table(fit: Rows, exits: Tensor, new: Rows, vocabulary: int) -> Tensor:
    """The table, each token weighing its inverse document frequency: stop words and [CLS] count little or nothing."""
    known = counts(fit, vocabulary)
    weight = np.log(known.shape[0] / (1 + np.asarray((known > 0).sum(0)).ravel())).clip(1e-6)
    found, _ = shares(known, exits, len(fit.logits), 10.0)
    return normalised((counts(new, vocabulary) @ diags(weight)) @ found)


def naive_bayes(fit: Rows, exits: Tensor, new: Rows, vocabulary: int) -> Tensor:
    """The product over tokens instead of the mean, p(e) Π p_t(e) / g(e), calibrated by a logistic regression.

    The calibration is fitted to rows the table has not counted: a fifth of them.
    """
    held = torch.arange(len(exits)) % 5 == 0
    known, used = counts(fit, vocabulary), (~held).numpy()
    found, general = shares(known[used], exits[~held], len(fit.logits), 10.0)
    evidence = np.log(found) - np.log(general.clip(1e-9))

    def features(matrix: Any) -> np.ndarray:
        length = np.asarray(matrix.sum(1))
        return np.hstack([matrix @ evidence / np.sqrt(length), np.log(length)])

    model = LogisticRegression(C=1.0, max_iter=500).fit(features(known[held.numpy()]), exits[held].numpy())
    return spread(model, features(counts(new, vocabulary)), len(fit.logits))


def spread(model: Any, features: Any, num_exits: int) -> Tensor:
    """A scikit-learn classifier's probabilities, (N, E), 0 where no row had the exit."""
    found = np.zeros((features.shape[0], num_exits))
    found[:, model.classes_] = model.predict_proba(features)
    return torch.from_numpy(found)


def bag(rows: Rows, vocabulary: int, ngram: int) -> Any:
    """Square roots of counts, by the length of the row."""
    found = counts(rows, vocabulary, ngram)
    found.data = np.sqrt(found.data)
    return diags(1 / np.sqrt(np.asarray(found.sum(1)).ravel())) @ found


def learned_table(fit: Rows, exits: Tensor, new: Rows, vocabulary: int, ngram: int = 1) -> Tensor:
    """Weights of tokens that a logistic regression learns: the best that a table of tokens can say, but for its fit."""
    model = LogisticRegression(C=3.0, max_iter=300).fit(bag(fit, vocabulary, ngram), exits.numpy())
    return spread(model, bag(new, vocabulary, ngram), len(fit.logits))


def by_length(fit: Rows, exits: Tensor, new: Rows, vocabulary: int) -> Tensor:
    """The text's length alone."""

    def features(rows: Rows) -> np.ndarray:
        length = np.log(rows.split.lengths)
        return np.stack([length, length**2], 1)

    return spread(LogisticRegression(max_iter=500).fit(features(fit), exits.numpy()), features(new), len(fit.logits))


def dense(rows: Rows) -> np.ndarray:
    """Mean embedding and the logarithm of the length, (N, H + 1)."""
    return np.hstack([rows.embedded.numpy(), np.log(rows.split.lengths)[:, None]])


def linear(fit: Rows, exits: Tensor, new: Rows, vocabulary: int) -> Tensor:
    """A linear head on the mean embedding and the length, as `LinearExitPredictor`."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(dense(fit), exits.numpy())
    return spread(model, dense(new), len(fit.logits))


def expected_exit(distribution: Tensor) -> Tensor:
    """The mean (N,) of distributions over exits (N, E)."""
    return distribution.double() @ torch.arange(distribution.shape[1], dtype=torch.float64)


def matched_by_rank(order: Tensor, taken: Tensor) -> Tensor:
    """Exits (n,) with the shares of those taken (N,): texts that stand late in an order (n,) get the late ones."""
    shares = torch.bincount(taken).double() / len(taken)
    place = (order.argsort().argsort() + 0.5) / len(order)
    return torch.searchsorted(shares.cumsum(0)[:-1].contiguous(), place)


def agreement(fit: Rows, new: Rows, features: Callable[[Rows], Any], strength: float) -> Tensor:
    """The chance that each exit answers as the last one does, (N, E), by a logistic regression an exit.

    The exit that a policy takes is a by-product; this is what a choice of exits gains or loses by. No labels are used.
    """
    agrees = (fit.logits.argmax(-1) == fit.logits[-1].argmax(-1)).numpy()
    found = np.ones((len(new.split), len(agrees)))
    known, wanted = features(fit), features(new)
    for exit_index, target in enumerate(agrees[:-1]):
        if 0 < target.mean() < 1:
            model = LogisticRegression(C=strength, max_iter=200).fit(known, target)
            found[:, exit_index] = model.predict_proba(wanted)[:, 1]
    return torch.from_numpy(found)


def agreement_by_tokens(fit: Rows, new: Rows, vocabulary: int) -> Tensor:
    """From the weights of tokens and pairs of tokens."""
    return agreement(fit, new, partial(bag, vocabulary=vocabulary, ngram=2), 0.3)


def agreement_by_embeddings(fit: Rows, new: Rows, vocabulary: int) -> Tensor:
    """From the mean embedding and the length."""
    return agreement(fit, new, scaled_by(fit), 0.003)


def scaled_by(fit: Rows) -> Callable[[Rows], np.ndarray]:
    """`dense`, standardised by rows to fit on."""
    mean, deviation = dense(fit).mean(0), dense(fit).std(0) + 1e-6
    return lambda rows: (dense(rows) - mean) / deviation


def in_groups(fit: Rows, new: Rows, features: Callable[[Rows], Any], penalty: float, groups: int = 10) -> Tensor:
    """The share of agreement at each exit (N, E) among rows of like difficulty: few numbers, so that little is noise.

    Difficulty is how many exits agree with the last, by a ridge regression; its groups are made of rows to fit on,
    each predicted by a regression without it.
    """
    agrees = (fit.logits.argmax(-1) == fit.logits[-1].argmax(-1)).double()
    known, target = features(fit), agrees.sum(0).numpy()
    folds = cross_val_predict(Ridge(penalty), known, target, cv=5)
    found = Ridge(penalty).fit(known, target).predict(features(new))
    edges = np.quantile(folds, np.arange(1, groups) / groups)
    own, wanted = np.searchsorted(edges, folds), np.searchsorted(edges, found)
    shares = np.stack([agrees[:, torch.from_numpy(own == group)].mean(1).numpy() for group in range(groups)])
    return torch.from_numpy(shares[wanted])


def groups_by_tokens(fit: Rows, new: Rows, vocabulary: int) -> Tensor:
    """Ten groups by the weights of tokens and their pairs."""
    return in_groups(fit, new, partial(bag, vocabulary=vocabulary, ngram=2), 1.0)


def groups_by_embeddings(fit: Rows, new: Rows, vocabulary: int) -> Tensor:
    """Ten groups by the mean embedding and the length."""
    return in_groups(fit, new, scaled_by(fit), 300.0)


Kind = Callable[[Rows, Tensor, Rows, int], Tensor]
FITTED: dict[str, Kind] = {
    "table": table,
    "table, prior 1": partial(table, strength=1.0),
    "table, 2-grams": partial(table, ngram=2),
    "table, idf": idf_table,
    "product, calibrated": naive_bayes,
    "learned table": learned_table,
    "length": by_length,
    "linear on embeddings": linear,
}
GAINS: dict[str, Callable[[Rows, Rows, int], Tensor]] = {
    "agreement by tokens": agreement_by_tokens,
    "agreement by embeddings": agreement_by_embeddings,
    "groups by tokens": groups_by_tokens,
    "groups by embeddings": groups_by_embeddings,
}
