"""The baselines are Hugging Face's own models, with our encoder's weights."""

import pytest
import torch
from tiny import SIZES, tiny_batch, tiny_encoder

from mebert.commands.bench.baselines import HuggingFaceModel, hugging_face_model
from mebert.models import MultiExitModel

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", SIZES)
def test_whole_and_cut_models_have_the_encoders_layers(family):
    encoder = tiny_encoder(family, **({"num_hidden_groups": 1} if family == "albert" else {}))
    model = MultiExitModel(encoder, num_labels=3).eval()
    batch = tiny_batch()
    with torch.no_grad():
        states = encoder(**batch, output_hidden_states=True).hidden_states
        for layers in (None, 2, 1):
            classifier = hugging_face_model(model, CPU, layers=layers)
            found = classifier.base_model(**batch).last_hidden_state
            expected = states[-1] if layers is None else model.adapter.final_norm(states[layers])
            torch.testing.assert_close(found, expected)
            assert classifier(**batch).logits.shape == (5, 3)
    assert encoder.config.num_hidden_layers == model.num_layers, "the encoder itself stays whole"


def test_precisions():
    model = MultiExitModel(tiny_encoder(), num_labels=2).eval()
    half = hugging_face_model(model, CPU, "bfloat16")
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    small = hugging_face_model(model, CPU, "int8")
    kinds = {type(m).__module__ for m in small.modules() if type(m).__name__ == "Linear"}
    assert all("quantized" in kind for kind in kinds), kinds
    done = HuggingFaceModel(small).feed(tiny_batch(), torch.arange(5))
    assert done.logits.shape == (5, 2)
    assert done.rows.tolist() == [0, 1, 2, 3, 4]
