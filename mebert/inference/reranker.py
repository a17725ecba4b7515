"""`EarlyExitReranker`: the best documents for a query; documents that cannot be among them do not run to the end."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from mebert.choices import PrecisionName
from mebert.errors import UserError, brief, check_range
from mebert.inference.batching import MOST_ROWS, plan_batches
from mebert.inference.classifier import EarlyExitClassifier
from mebert.inference.engine import Finished
from mebert.inference.settings import whole_number
from mebert.inference.stream import TextEncoder
from mebert.inference.whole_batch import ShrinkEngine
from mebert.metrics.ranking import ranking_scores
from mebert.models.multi_exit import MultiExitModel
from mebert.policies.top_k import Bounds, TopK, final_score_bounds


class EarlyExitReranker:
    """Ranks documents for a query by a model of (query, document) pairs, as sentence-transformers' `CrossEncoder` does.

    Scores are those of the last exit. With `top_k` a document leaves at the first exit at which it cannot be among the
    top k any more, by bounds on how far a score still moves (`mebert.policies.top_k`). `fit` stores them with a model
    whose validation data have questions; `learn_bounds` finds them for any other.

    Args:
        classifier: With two classes, the second of which is relevant, or a regression.

    Attributes:
        bounds: Coverage to bounds; empty: every document runs through all layers.

    Threads may share one.

    Raises:
        UserError: The model has more than two labels.
    """

    def __init__(self, classifier: EarlyExitClassifier) -> None:
        self.classifier = classifier
        self.model: MultiExitModel = classifier.model
        if self.model.num_labels > 2 or self.model.multi_label:
            names = ", ".join(self.model.label_names) + " (several a row)" * self.model.multi_label
            raise UserError(
                f"a reranker needs two labels, the second one relevant, or a regression; the model has {names}"
            )
        self.bounds: Mapping[float, Bounds] = self.model.score_bounds

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: str | torch.device | None = None,
        precision: PrecisionName | None = None,
        compile: bool = False,
    ) -> Self:
        """Open a model folder (`<run>/model`, or the run's own folder) or a Hub id; as `EarlyExitClassifier`.

        Raises:
            UserError: There is no such folder or id, it has no exits or no tokenizer, or more than two labels.
        """
        return cls(EarlyExitClassifier.from_pretrained(path, device, precision, compile))

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        *,
        coverage: float = 0.95,
        batch_size: int = 32,
    ) -> list[dict[str, Any]]:
        """The best documents, the best first, as dictionaries with `corpus_id` and `score`.

        `corpus_id` is the place in `documents`, `score` the probability that the document is relevant (in a regression
        the number) at the last exit.

        Args:
            query: The first text of every pair.
            documents: The second texts.
            top_k: How many to return, at least 1; None: all, which run through all layers.
            return_documents: Add the document as `text`.
            coverage: Share of validation documents whose final score is within the bounds; less is faster and loses
                more of the best; 1 runs every document through all layers.
            batch_size: Documents that run together.

        Raises:
            UserError: A setting out of range, a coverage for which there are no bounds, or what is no text.
        """
        done = self.run(query, documents, top_k, coverage=coverage, batch_size=batch_size)
        ended = done.exits == self.model.num_exits - 1
        rows, logits = done.rows[ended], done.logits[ended]
        scores = self._scores(logits, self.model.num_exits - 1)
        order = sorted(range(len(rows)), key=lambda place: (-float(scores[place]), int(rows[place])))
        best = order if top_k is None else order[: int(top_k)]
        shown = scores if self.model.num_labels == 1 else scores.double().sigmoid()
        found: list[dict[str, Any]] = []
        for place in best:
            row = int(rows[place])
            text = {"text": documents[row]} if return_documents else {}
            found.append({"corpus_id": row, "score": float(shown[place]), **text})
        return found

    def run(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        *,
        coverage: float = 0.95,
        batch_size: int = 32,
    ) -> Finished:
        """Where each document left and its logits there, in any order; arguments as `rank`."""
        _check_texts(query, documents)
        k = None if top_k is None else whole_number("top_k", top_k)
        check_range("top_k", k, 1)
        check_range("coverage", coverage, 0.0, 1.0)
        bounds = self._bounds_of(coverage) if k is not None and len(documents) > k else ()
        rule, last = TopK(k or 1, bounds, self._scores), self.model.num_exits - 1
        engine = ShrinkEngine(self.model, rule)
        parts = []
        for inputs, rows in self._batches(self.classifier.text_encoder(), query, documents, batch_size):
            found = engine.feed(inputs, rows)
            rule.finish(self._scores(found.logits[found.exits == last], last))
            parts.append(found)
        return engine.joined(parts)

    @torch.inference_mode()
    def learn_bounds(self, questions: Iterable[tuple[str, Sequence[str]]], batch_size: int = 32) -> None:
        """Find the bounds from queries with documents, as they will be asked; labels are not needed.

        Args:
            questions: Pairs of a query and its documents that the model was not trained on, 39 documents at least for
                a coverage of 0.95.
            batch_size: Documents that run together.

        Raises:
            UserError: Too few documents for any bound.
        """
        encoder, parts = self.classifier.text_encoder(), []
        for query, documents in questions:
            _check_texts(query, documents)
            for inputs, _ in self._batches(encoder, query, documents, batch_size):
                parts.append(self.model(**inputs).logits.cpu())
        count = sum(part.shape[1] for part in parts)
        found = final_score_bounds(torch.cat(parts, 1), self.model.exit_temperatures) if parts else {}
        if not found:
            raise UserError(f"learn_bounds got {count} documents, too few for bounds; give 39 or more")
        self.bounds = found

    def _bounds_of(self, coverage: float) -> Bounds:
        if coverage == 1.0:
            return ()
        if not self.bounds:
            advice = "find them with learn_bounds, or train with data.query_column"
            warnings.warn(
                f"the model has no bounds on scores: all documents run through all layers; {advice}", stacklevel=4
            )
            return ()
        if coverage not in self.bounds:
            known = ", ".join(f"{one:g}" for one in self.bounds)
            raise UserError(f"coverage {coverage:g} has no bounds; choose one of: {known}, 1 (all layers)")
        return self.bounds[coverage]

    def _scores(self, logits: Tensor, exit_index: int) -> Tensor:
        """What documents are ranked by, (B,), from logits (B, C) of an exit."""
        exits = torch.full(logits.shape[:1], exit_index, device=logits.device)
        return ranking_scores(self.model.comparable(logits, exits))

    def _batches(
        self, encoder: TextEncoder, query: str, documents: Sequence[str], batch_size: int
    ) -> Iterable[tuple[dict[str, Tensor], Tensor]]:
        """Inputs and places of the documents, those of similar length together."""
        size = whole_number("batch_size", batch_size)
        check_range("batch_size", size, 1, MOST_ROWS)
        if not documents:
            return
        rows = encoder.encode([(query, document) for document in documents])
        for places in plan_batches([len(ids) for ids in rows["input_ids"]], max_batch=size):
            yield encoder.collate(rows, places), torch.from_numpy(places)


def _check_texts(query: Any, documents: Any) -> None:
    if isinstance(documents, str) or not isinstance(documents, Sequence):
        raise UserError(f"documents must be a list of texts, got {brief(documents)}")
    for name, text in (("query", query), *((f"documents[{place}]", text) for place, text in enumerate(documents))):
        if not isinstance(text, str):
            raise UserError(f"{name} must be a text, got {brief(text)}")
