"""The layout of ElasticBERT's published weights (fnlp/elasticbert-base): a BERT under another name.

Its `config.json` names a type of model that transformers does not know, its weights begin with `elasticbert.`, and its
encoder has a pooler a layer (`mebert.models.pooler`). Importing this module makes the type known to transformers.
Source: fastnlp/ElasticBERT, `configuration_elasticbert.py`, `modeling_elasticbert.py`; config.json on the Hub.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoTokenizer, BertConfig, BertTokenizer, PreTrainedConfig


class ElasticBertConfig(BertConfig):
    """Its `config.json`."""

    model_type = "elasticbert"

    def as_bert(self) -> BertConfig:
        """The same encoder as transformers' BERT."""
        known = BertConfig().to_dict().keys() - {"model_type", "architectures", "transformers_version"}
        made = BertConfig(**{name: value for name, value in self.to_dict().items() if name in known})
        made.name_or_path = self.name_or_path
        return made


AutoConfig.register("elasticbert", ElasticBertConfig, exist_ok=True)
AutoTokenizer.register(ElasticBertConfig, tokenizer_class=BertTokenizer, exist_ok=True)


def encoder_configuration(name: str) -> tuple[PreTrainedConfig, dict[str, str] | None]:
    """The configuration of a folder or Hub id, and what its weights are renamed by (pattern to new text), if at all."""
    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if isinstance(config, ElasticBertConfig):
        return config.as_bert(), {r"^elasticbert\.": "bert."}
    return config, None
