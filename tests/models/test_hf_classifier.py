"""`transformers.pipeline` opens a saved model at full depth where its last exit is a classifier of transformers."""

import pytest
import torch
from tiny import SIZES, save_tokenizer, tiny_batch, tiny_model
from transformers import AutoModelForSequenceClassification, pipeline

from mebert import EarlyExitClassifier, MultiExitModel
from mebert.models.hf_classifier import PLACES, unlike_hugging_face

TEXTS = ["a good film", "bad and awful", "the plot was a plot"]
WORDS = ["good", "fine", "great", "bad", "awful", "poor", "the", "film", "was", "a", "plot", "and", "cast"]


def saved(folder, family="bert", num_labels=3, **settings):
    model = tiny_model(family, num_labels, **settings)
    model.save_pretrained(folder)
    save_tokenizer(folder, WORDS)
    return model


FAST = ("bert", "mpnet", "distilbert")


@pytest.mark.parametrize("family", [f if f in FAST else pytest.param(f, marks=pytest.mark.slow) for f in SIZES])
def test_the_last_exit_of_every_family(family, tmp_path):
    model, batch = saved(tmp_path, family), tiny_batch()
    with torch.no_grad():
        wanted = model.last_exit(**batch)
        assert torch.equal(MultiExitModel.from_pretrained(tmp_path).last_exit(**batch), wanted)
        if (fault := unlike_hugging_face(family, "cls", "mlp")) is not None:
            assert family not in PLACES
            assert family in fault
            assert model.hugging_face_fault() == fault
            return
        opened, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(report.values()), "every weight is there, and no other"
        assert opened.config.architectures == [type(opened).__name__]
        torch.testing.assert_close(opened.eval()(**batch).logits, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [{}, {"head": "shared"}, {"num_labels": 1}, {"problem_type": "multi_label_classification"}, {"num_labels": 2}],
    ids=str,
)
def test_pipeline_gives_the_probabilities_of_full_depth(settings, tmp_path):
    saved(tmp_path, **settings)
    classify = EarlyExitClassifier.from_pretrained(tmp_path, precision="float32")
    theirs = pipeline("text-classification", model=str(tmp_path), trust_remote_code=False, top_k=None)
    assert theirs.model.dtype == torch.float32
    for text, found in zip(TEXTS, theirs(TEXTS), strict=True):
        ours = classify(text, policy="change" if settings.get("num_labels") == 1 else "entropy", threshold=0.0)
        wanted = ours.probabilities or {"LABEL_0": ours.score}
        assert {one["label"]: one["score"] for one in found} == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "fault"), [({"pooling": "mean"}, "the pooling mean"), ({"head": "linear"}, "head linear")], ids=str
)
def test_other_heads_are_not_written_as_theirs(settings, fault, tmp_path):
    model = saved(tmp_path, **settings)
    assert fault in model.hugging_face_fault()
    assert MultiExitModel.from_pretrained(tmp_path).encoder.config.architectures == ["BertModel"]


def test_a_model_that_runs_otherwise_is_not_written_as_theirs():
    class Doubled(MultiExitModel):
        def ask(self, state, exit_index):
            logits, feature = super().ask(state, exit_index)
            return 2 * logits, feature

    plain = tiny_model()
    assert plain.hugging_face_fault() is None
    assert Doubled(plain.encoder).hugging_face_fault() == "Doubled computes its last exit in a way of its own"
