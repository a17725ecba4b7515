"""An encoder's `config.json`, as far as a wrong value in it would do harm before transformers looks at it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from transformers.utils import cached_file

from mebert.storage.json_values import Finite, read_values

Layers = Annotated[int, Field(ge=0, le=1000)]  # each is made before the weights are read
Size = Annotated[int, Field(ge=0, le=2**24)]
Dropout = Annotated[Finite, Field(ge=0, le=1)]


class EncoderFile(BaseModel):
    """What is looked at; of the families' names for one thing a file has one."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model_type: str | None = None
    architectures: list[str] | None = None
    dtype: str | None = None
    torch_dtype: str | None = None
    id2label: dict[Annotated[str, Field(pattern=r"^\d+$")], Any] | None = None
    label2id: dict[str, Any] | None = None
    quantization_config: Any = None
    num_hidden_layers: Layers = 0
    n_layers: Layers = 0
    hidden_size: Size = 0
    dim: Size = 0
    intermediate_size: Size = 0
    hidden_dim: Size = 0
    embedding_size: Size = 0
    vocab_size: Size = 0
    max_position_embeddings: Size = 0
    type_vocab_size: Size = 0
    task_type_vocab_size: Size = 0
    relative_attention_num_buckets: Size = 0
    position_buckets: Annotated[int, Field(ge=-1, le=2**24)] = -1
    max_relative_positions: Annotated[int, Field(ge=-1, le=2**24)] = -1
    conv_kernel_size: Size = 0
    head_dim: Size | None = None
    num_key_value_heads: Size | None = None
    layer_norm_eps: Annotated[Finite, Field(ge=0)] = 0.0
    norm_eps: Annotated[Finite, Field(ge=0)] = 0.0
    rms_norm_eps: Annotated[Finite, Field(ge=0)] = 0.0
    hidden_dropout_prob: Dropout = 0.0
    attention_probs_dropout_prob: Dropout = 0.0
    embedding_dropout: Dropout = 0.0
    mlp_dropout: Dropout = 0.0
    dropout: Dropout = 0.0
    attention_dropout: Dropout = 0.0

    @field_validator("quantization_config")
    @classmethod
    def _not_quantised(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError(
                "mebert reads plain weights only (and quantises them itself: precision int8); take the model that was "
                "not quantised"
            )
        return value

    @field_validator("dtype", "torch_dtype")
    @classmethod
    def _is_one(cls, value: str | None) -> str | None:
        import torch

        if value not in (None, "auto") and not isinstance(getattr(torch, str(value), None), torch.dtype):
            raise ValueError("it is no type of numbers of PyTorch's")
        return value


def check_encoder_file(name: str) -> None:
    """Refuse a `config.json`, of a folder or Hub id, with a value that cannot be; it may be missing."""
    if file := cached_file(name, "config.json", _raise_exceptions_for_missing_entries=False):
        read_values(Path(file), EncoderFile, f"{name}/config.json")
