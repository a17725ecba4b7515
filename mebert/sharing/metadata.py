"""The metadata at the head of a model card, by which the Hub finds, shows and runs a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mebert.sharing.facts import METRIC_IDS, CardFacts

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

TASK = "text-classification"
LIBRARY = "mebert"


def card_metadata(facts: CardFacts) -> ModelCardData:
    """The metadata; what is not known is left out."""
    from huggingface_hub import ModelCardData

    results = _results(facts)
    training = facts.training
    return ModelCardData(
        license=facts.licence,
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=["early-exit", "bert", *(["onnx"] if facts.onnx else [])],
        base_model=facts.spec.base_model,
        datasets=None if training is None or training.dataset is None else [training.dataset[0]],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=facts.repo.rpartition("/")[2],
        eval_results=results or None,
    )


def _results(facts: CardFacts) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    test, training = facts.evaluation, facts.training
    if test is None or training is None:
        return []
    name, config = training.dataset or (training.data, None)
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=training.dataset_type,
            dataset_name=name if training.task is None else training.task,
            dataset_config=config,
            dataset_split="validation" if training.validated_on_test else test["split"],
            metric_type=METRIC_IDS.get(test["metric"], test["metric"]),
            metric_name=f"{facts.metric}, {point.name}",
            metric_value=round(point.metric, 4),
        )
        for point in facts.points
        if point.metric == point.metric  # a number
    ]
