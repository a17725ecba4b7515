"""The last exit as Hugging Face's own classifier, so that `pipeline("text-classification", folder)` opens a model.

Source: the `...ForSequenceClassification` of each family in transformers 5.23. A head of ours is theirs where it is
Linear, tanh, Linear on the first token. ELECTRA's, ModernBERT's and EuroBERT's have GELU, DistilBERT's ReLU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mebert.models.heads import ExitHead

HEAD = ("classifier.dense", "classifier.out_proj")
PLACES: dict[str, tuple[str, str]] = {
    **{"bert": ("bert.pooler.dense", "classifier"), "ernie": ("ernie.pooler.dense", "classifier")},
    **{"albert": ("albert.pooler", "classifier"), "deberta-v2": ("pooler.dense", "classifier")},
    **dict.fromkeys(("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet"), HEAD),
}
"""Family to where the first and the second Linear of its classifier are in the weights."""


def unlike_hugging_face(family: str, pooling: str | None, head: str | None) -> str | None:
    """Why transformers has no classifier for a model with such exits; None where it has one."""
    if family not in PLACES:
        return f"transformers' classifier for {family} has another head than a model of mebert"
    if pooling != "cls":
        return f"its exits have the pooling {pooling}; transformers' classifier for {family} reads the first token"
    if head == "linear":
        return f"its exits have the head linear; transformers' classifier for {family} has the head mlp"
    return None


def classifier_class(family: str) -> str:
    """The name of transformers' classifier for a family."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as NAMES

    return str(NAMES[family])


def classifier_state(encoder: PreTrainedModel, head: ExitHead) -> dict[str, Tensor]:
    """The weights of an encoder and of its last exit, by the names that transformers' classifier has for them.

    The head must have the form of that classifier (`unlike_hugging_face`).
    """
    state = {f"{encoder.base_model_prefix}.{name}": value for name, value in encoder.state_dict().items()}
    linears = [layer for layer in head.classifier if isinstance(layer, nn.Linear)]
    for place, linear in zip(PLACES[encoder.config.model_type], linears, strict=True):
        state |= {f"{place}.weight": linear.weight.detach(), f"{place}.bias": linear.bias.detach()}
    return state


def set_classifier_options(config: Any) -> None:
    """Set what an encoder's configuration says of the classifier alone."""
    if config.model_type == "deberta-v2":
        config.pooler_hidden_act = "tanh"
