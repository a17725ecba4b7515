"""Closed choices that commands name in their arguments; light, so that their help needs no PyTorch."""

from __future__ import annotations

from typing import Literal

EngineName = Literal["shrink", "full", "refill", "predicted"]
"""How a batch is run (`mebert.inference`)."""

PrecisionName = Literal["float32", "bfloat16", "int8"]
"""Precision of a model that is prepared for inference."""

PoolingKind = Literal["cls", "mean", "max", "attention", "fastbert"]
"""What an exit reads (`mebert.models.heads`)."""

HeadKind = Literal["mlp", "linear", "shared"]
"""How an exit classifies."""

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""What a row's label is, as Hugging Face names it: one class, a set of labels, or a number."""

CompareFormat = Literal["text", "md", "csv", "png", "html"]
"""What `compare` writes."""
