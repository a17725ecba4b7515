"""The small attention that FastBERT's and GEEP's classifiers read a layer with.

Source: Liu et al., "FastBERT: a Self-distilling BERT with Adaptive Inference Time", ACL 2020, and its released code
(the same classifier in GEEP's). Shapes: B batch, S tokens, H hidden, W = 128 width, D = W / 2 width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_HEADS = 2


class FastBertPooling(nn.Module):
    """Linear(H -> 128), tanh, self-attention with 2 heads, and of that the first token: a feature of width 128.

    EXACT as a function of the weights, but for padding, which the released student classifiers attend to and this one
    masks. The head `mlp` after it (Linear, tanh, Linear) completes FastBERT's classifier.

    Only what the first token reads is computed: its query is taken to the tokens' own space, so that no token needs a
    key or a value of its own. A bias of the keys would move all scores alike and is left out.
    """

    width = 128

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        width = self.width
        self.project = nn.Linear(hidden_size, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, S, H) and (B, S) to (B, W)."""
        batch, heads = hidden.shape[0], NUM_HEADS
        tokens = torch.tanh(self.project(hidden))  # (B, S, W)
        query = self.query(tokens[:, 0]).view(batch, heads, -1).transpose(0, 1)  # (2, B, D)
        # q . (K x) = (K^T q) . x, head by head.
        reach = torch.bmm(query, self.key.weight.view(heads, -1, self.width)).transpose(0, 1)  # (B, 2, W)
        read = _read(reach, tokens, attention_mask)
        value = self.value.weight.view(heads, -1, self.width).transpose(1, 2)  # (2, W, D)
        bias = self.value.bias.view(heads, 1, -1)
        context = torch.baddbmm(bias, read.transpose(0, 1), value)  # (2, B, D)
        feature: Tensor = self.output(context.transpose(0, 1).reshape(batch, self.width))
        return feature

    def flops(self, tokens: Tensor) -> Tensor:
        """Counted cost for inputs of `tokens` tokens."""
        return _flops(self.project.in_features, tokens)

    @torch.no_grad()
    def folded(self) -> FoldedFastBertPooling:
        """The same function for inference, with half the kernels: products of weights are taken beforehand."""
        heads, width = NUM_HEADS, self.width
        query, key, value = (x.weight.float().view(heads, -1, width) for x in (self.query, self.key, self.value))
        output = self.output.weight.float().view(width, heads, -1)
        made = FoldedFastBertPooling(self.project)
        made.reach.weight.copy_(torch.einsum("hdk,hdj->hkj", key, query).reshape(heads * width, width))
        made.reach.bias.copy_(torch.einsum("hdk,hd->hk", key, self.query.bias.float().view(heads, -1)).flatten())
        made.output.weight.copy_(torch.einsum("ohd,hdk->ohk", output, value).reshape(width, heads * width))
        made.output.bias.copy_(self.output.weight.float() @ self.value.bias.float() + self.output.bias.float())
        return made.to(self.project.weight).train(self.training)


class FoldedFastBertPooling(nn.Module):
    """`FastBertPooling` with its linear maps multiplied out; not for training, where it would be another model."""

    def __init__(self, project: nn.Linear) -> None:
        super().__init__()
        width = project.out_features
        self.project = project
        self.reach = nn.Linear(width, NUM_HEADS * width)
        self.output = nn.Linear(NUM_HEADS * width, width)

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, S, H) and (B, S) to (B, W)."""
        return self.read(torch.tanh(self.project(hidden)), attention_mask)

    def read(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """From projected tokens (B, S, W), on which an engine that has no padding until here saves some."""
        reach = self.reach(tokens[:, 0]).unflatten(1, (NUM_HEADS, -1))
        feature: Tensor = self.output(_read(reach, tokens, attention_mask).flatten(1))
        return feature

    def flops(self, tokens: Tensor) -> Tensor:
        """Counted cost for inputs of `tokens` tokens: that of the pooling that was folded."""
        return _flops(self.project.in_features, tokens)


def _read(reach: Tensor, tokens: Tensor, attention_mask: Tensor) -> Tensor:
    """What each head reads: queries in the tokens' own space (B, 2, W) and tokens (B, S, W) to (B, 2, W)."""
    tokens = tokens.unsqueeze(1)
    # Both heads read the same tokens: two queries of one head. The scale is that of keys of width D.
    read = F.scaled_dot_product_attention(
        reach.unsqueeze(1),
        tokens,
        tokens,
        attn_mask=attention_mask[:, None, None].bool(),
        scale=(reach.shape[-1] // NUM_HEADS) ** -0.5,
    )
    return read.squeeze(1)


def _flops(hidden_size: int, tokens: Tensor) -> Tensor:
    width = FastBertPooling.width
    per_token = hidden_size * width + 2 * NUM_HEADS * width
    return 2 * (tokens * per_token + 4 * width * width)
