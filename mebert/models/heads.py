"""What an exit reads and how it classifies it.

Shapes: B batch, S tokens, H hidden, C classes. What an exit pools decides much of the worth of the shallow exits:
the [CLS] vector of a shallow layer has seen little of the sentence, the masked mean has seen all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mebert.choices import HeadKind, PoolingKind
from mebert.models.fastbert_pooling import FastBertPooling


class ClsPooling(nn.Module):
    """The first token's vector ([CLS] or <s>): what the papers use."""

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, S, H) and (B, S) to (B, H)."""
        return hidden[:, 0]

    def flops(self, tokens: Tensor) -> Tensor:
        """Counted cost for inputs of `tokens` tokens; 2 x multiply-adds of matrix products only."""
        return torch.zeros_like(tokens)


class MeanPooling(ClsPooling):
    """The mean over the tokens that are not padding."""

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.to(hidden.dtype).unsqueeze(-1)
        return (hidden * mask).sum(1) / mask.sum(1).clamp_min(1)


class MaxPooling(ClsPooling):
    """The largest value of each feature over the tokens that are not padding."""

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        padding = attention_mask.unsqueeze(-1) == 0
        return hidden.masked_fill(padding, torch.finfo(hidden.dtype).min).amax(1)


class AttentionPooling(nn.Module):
    """A small additive attention over tokens: softmax(v . tanh(W h)) weights, W of `width` rows, padding masked."""

    def __init__(self, hidden_size: int, width: int = 128) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, width)
        self.query = nn.Linear(width, 1, bias=False)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, S, H) and (B, S) to (B, H)."""
        score = self.query(torch.tanh(self.project(hidden))).squeeze(-1).float()
        weight = score.masked_fill(attention_mask == 0, float("-inf")).softmax(-1).to(hidden.dtype)
        return torch.bmm(weight.unsqueeze(1), hidden).squeeze(1)

    def flops(self, tokens: Tensor) -> Tensor:
        """Counted cost for inputs of `tokens` tokens."""
        hidden, width = self.project.in_features, self.project.out_features
        return 2 * tokens * (hidden * width + width + hidden)


def make_pooling(kind: PoolingKind, hidden_size: int) -> nn.Module:
    """The pooling module with this name, for features of width `hidden_size`."""
    if kind == "attention":
        return AttentionPooling(hidden_size)
    if kind == "fastbert":
        return FastBertPooling(hidden_size)
    return {"cls": ClsPooling, "mean": MeanPooling, "max": MaxPooling}[kind]()


def feature_size_of(kind: PoolingKind, hidden_size: int) -> int:
    """Width F of the feature that this pooling makes of hidden states of width `hidden_size`."""
    return FastBertPooling.width if kind == "fastbert" else hidden_size


def per_label(logits: Tensor) -> Tensor:
    """One logit z a label, (..., C), as those of the two answers no and yes, [0, z]: (..., C, 2).

    A multi-label model answers for each label by itself. Softmax, entropy, cross-entropy and argmax over the last
    dimension then are the sigmoid, the binary entropy and cross-entropy, and whether the probability is above 0.5.

    >>> per_label(torch.tensor([[0.0, 2.0]])).tolist()
    [[[0.0, 0.0], [0.0, 2.0]]]
    """
    return torch.stack([torch.zeros_like(logits), logits], -1)


class ExitHead(nn.Module):
    """One exit: pool the hidden states, then classify the pooled feature, whose width is F (H, or 128 of `fastbert`).

    Args:
        hidden_size: H.
        num_labels: C.
        pooling: What the exit reads.
        head: `mlp` is Linear, tanh, dropout, Linear (as BERT's pooler and classifier); `linear` is dropout and one
            Linear; `shared` is `mlp` whose first Linear all exits of a model share (PABEE's pooler).
        dropout: Dropout rate in the head, 0..1.
        multi_label: Whether each label is answered by itself (`per_label`).
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        pooling: PoolingKind = "cls",
        head: HeadKind = "mlp",
        dropout: float = 0.1,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.multi_label = multi_label
        self.pooling = make_pooling(pooling, hidden_size)
        self.feature_size = feature_size_of(pooling, hidden_size)
        layers: list[nn.Module] = []
        if head != "linear":
            layers += [nn.Linear(self.feature_size, self.feature_size), nn.Tanh()]
        layers += [nn.Dropout(dropout), nn.Linear(self.feature_size, num_labels)]
        self.classifier = nn.Sequential(*layers)
        if pooling == "fastbert":
            return  # PyTorch's own, as in the released code: BERT's shrinks the signal fourfold a layer of width 128
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)  # BERT's own initialisation
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def pool(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states (B, S, H) to the exit's feature (B, F)."""
        feature: Tensor = self.pooling(hidden, attention_mask)
        return feature

    def classify(self, feature: Tensor) -> Tensor:
        """Feature (B, F) to logits (B, C), float32 whatever the layers' precision; of a multi-label head (B, C, 2)."""
        logits: Tensor = self.classifier(feature).float()
        return per_label(logits) if self.multi_label else logits

    def flops(self, tokens: Tensor) -> Tensor:
        """Counted cost of this exit for inputs of `tokens` tokens."""
        linear = sum(2 * m.in_features * m.out_features for m in self.classifier if isinstance(m, nn.Linear))
        pooled: Tensor = self.pooling.flops(tokens)  # type: ignore[operator]
        return pooled + linear
