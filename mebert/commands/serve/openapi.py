"""What the API's description says of the model that is served: requests that it answers, and the key."""

from __future__ import annotations

from typing import Any

from mebert.commands.serve.guard import KEYLESS
from mebert.serving.model_info import ModelInfo
from mebert.serving.schema import example_request

KEYS = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}


def with_the_models_facts(schema: dict[str, Any], info: ModelInfo, with_key: bool) -> dict[str, Any]:
    """An OpenAPI description with examples that the model answers and, where a key is wanted, how it is sent.

    Args:
        schema: As FastAPI writes it; is changed.
        info: The model.
        with_key: Whether clients must send one.
    """
    texts = info.texts_per_input
    body = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    body["examples"] = {
        "one": {"value": example_request(texts)},
        "full depth": {"value": {**example_request(texts), "speedup": 1}},
        "a list": {"value": example_request(texts, many=True)},
    }
    if with_key:
        schema.setdefault("components", {})["securitySchemes"] = KEYS
        schema["security"] = [{name: []} for name in KEYS]  # one of them
        for path in KEYLESS & schema["paths"].keys():
            for operation in schema["paths"][path].values():
                operation["security"] = []
    return schema
