"""Models for several labels a row: every engine and recipe, saved and opened, and asked through the command line."""

import json

import pytest
import torch
from runs import read_csv, write_rows
from tiny import tiny_batch, tiny_config, tiny_encoder, tiny_model, words_tokenizer

import mebert
from mebert.calibration.choose import guaranteed_threshold, losses_at
from mebert.calibration.risks import NewMistakes
from mebert.cli.main import main
from mebert.errors import UserError
from mebert.exit_predictor import ExitPredictor
from mebert.inference import make_engine, prepare_model, prepare_policy, run_engine, run_full
from mebert.metrics.curve import ExitRecord
from mebert.metrics.record_files import load_record, save_record
from mebert.models import CascadeModel, MultiExitModel, PastFutureModel, fit_prototypes
from mebert.models.heads import per_label
from mebert.policies import Entropy, MaxProbability, Patience, PatientDivergence, PatientEntropy, Voting
from mebert.storage.model_spec import ModelSpec

SEVERAL = "multi_label_classification"
NAMES = ["a", "b", "c", "d"]
MODELS = {
    "exits": tiny_model("bert", 4, pooling="mean", problem_type=SEVERAL, label_names=NAMES),
    "past and future": PastFutureModel(tiny_encoder("bert"), 4, problem_type=SEVERAL).eval(),
    "cascade": CascadeModel([tiny_model("bert", 4, problem_type=SEVERAL) for _ in range(2)]).eval(),
}
POLICIES = [Entropy, MaxProbability, Patience, PatientEntropy, PatientDivergence, Voting]


@pytest.mark.parametrize("name", MODELS)
def test_every_engine_gives_the_labels_and_exits_of_full(name):
    model = prepare_model(MODELS[name])
    batch = tiny_batch(11)
    parts = [({k: v[some] for k, v in batch.items()}, torch.arange(11)[some]) for some in (slice(6), slice(6, 11))]
    outputs = model(**batch)
    assert outputs.logits.shape == (model.num_exits, 11, 4, 2)
    assert torch.equal(outputs.logits[..., 0], torch.zeros(model.num_exits, 11, 4))
    for kind in POLICIES:
        scores = kind().bind(model).score_exits(outputs.logits, outputs.features)
        values = scores[:-1].unique()
        values = values[values.isfinite()] if bool(values.isfinite().any()) else torch.tensor([0.4])
        between = float(values[max(len(values) // 2 - 1, 0) :][:2].mean())  # no score, which may round otherwise
        policy = prepare_policy(kind(threshold=min(between, 1.0)), model)
        wanted = run_full(model, policy, batch)
        for engine in ("shrink", "refill"):
            parts = [
                ({k: v[rows] for k, v in batch.items()}, torch.arange(11)[rows]) for rows in (slice(6), slice(6, 11))
            ]
            found = run_engine(make_engine(engine, model, policy, batch_size=4), parts)
            assert torch.equal(found.exits, wanted.exits)
            torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)

    class Alternate(ExitPredictor):
        def predict(self, input_ids, attention_mask):
            return attention_mask.sum(1) % self.num_exits

    predictors = [Alternate(model.num_exits).bind(model)]
    found = run_engine(make_engine("predicted", model, policy, batch_size=4, predictors=predictors), parts)
    torch.testing.assert_close(found.logits, outputs.logits[found.exits, torch.arange(11)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "recipe", sorted(name for name in mebert.MODULE_OF if name.endswith("Module") and "Data" not in name)
)
def test_every_recipe_learns_labels_or_says_that_it_cannot(recipe):
    kind = getattr(mebert, recipe)
    settings = {"encoder_config": tiny_config("bert"), "num_labels": 3, "problem_type": SEVERAL}
    if recipe == "ProtoExitModule":
        with pytest.raises(UserError, match="ProtoExitModule, with a prototype a class, needs the one class of a row"):
            kind(**settings)
        settings["prototypes"] = False
    module = kind(**settings).train()
    batch = {**tiny_batch(6), "labels": torch.randint(2, (6, 3)), "index": torch.arange(6)}
    parts = module.compute_loss(module(**{k: batch[k] for k in ("input_ids", "attention_mask")}), batch)
    parts["loss"].backward()
    assert parts["loss"].isfinite()
    assert set(module.score_policies()) <= {"entropy", "max_prob", "margin", "patience", "learned"}


def test_what_reads_one_class_a_row_refuses_the_model():
    model = MODELS["exits"]
    for name, what in (("DistanceRatio", "'dr'"), ("Stacked", "'stacked'")):
        with pytest.raises(UserError, match=f"the policy {what} reads the one class of a row"):
            getattr(mebert, name)().bind(model)
    with pytest.raises(UserError, match="prototypes are means of classes"):
        fit_prototypes(model, [])
    with pytest.raises(UserError, match="does not fit num_labels 1"):
        MultiExitModel(tiny_encoder(), 1, problem_type=SEVERAL)
    with pytest.raises(UserError, match="must answer the same"):
        CascadeModel([tiny_model("bert", 4), tiny_model("bert", 4, problem_type=SEVERAL)])


def test_the_risk_is_the_share_of_labels_lost(tmp_path):
    """Half the rows lose one of four labels at exit 1: a mean loss of 1/8."""
    labels = torch.ones(400, 4, dtype=torch.int64)
    z = torch.ones(2, 400, 4)
    z[0, ::2, 0] = -1
    scores = torch.stack([torch.full((400,), 0.4), torch.zeros(400)])
    record = ExitRecord(per_label(z), labels, torch.arange(400), torch.full((400,), 5), {"entropy": scores})
    assert float(losses_at(record, scores, 0.5, NewMistakes()).mean()) == 0.125
    for epsilon, allowed in ((0.2, 1.0), (0.12, 0.0)):
        found = guaranteed_threshold(record, scores, epsilon, 0.1)
        assert (found.threshold > 0.4) == bool(allowed)
        assert found.measured == (0.125 if allowed else 0.0)
    save_record(record, tmp_path / "pass.safetensors", {})
    assert torch.equal(load_record(tmp_path / "pass.safetensors")[0].logits, record.logits)


@pytest.fixture
def saved(here):
    model = MODELS["exits"]
    model.save_pretrained(
        here / "model", words_tokenizer(), Entropy(0.3).bind(model), label_separator="|", max_length=16
    )
    given = [{"text": f"w{n} w{n + 1} w{n % 5}", "label": "|".join(NAMES[: n % 4])} for n in range(24)]
    write_rows(here / "rows.csv", given)
    return model, given


def test_a_saved_model_is_asked_through_the_command_line(saved, capsys):
    _model, given = saved
    assert ModelSpec.read("model").problem_type == SEVERAL
    classify = mebert.EarlyExitClassifier.from_pretrained("model", device="cpu", precision="float32")
    found = classify([row["text"] for row in given], threshold=0.0)
    for one in found:
        assert (one.label, one.score) == (None, None)
        assert one.labels == tuple(name for name, share in one.probabilities.items() if share > 0.5)
    asked = ["predict", "model", "rows.csv", "--threshold", "0", "--precision", "float32", "--out"]
    assert main([*asked, "out.csv"]) == 0
    assert "column 'label': f1_micro" in capsys.readouterr().err
    rows = read_csv("out.csv")
    assert [row["labels"] for row in rows] == ["|".join(one.labels) for one in found]
    assert [float(row["prob_a"]) for row in rows] == pytest.approx([one.probabilities["a"] for one in found], abs=1e-6)
    assert main([*asked, "out.jsonl"]) == 0
    with open("out.jsonl", encoding="utf-8") as file:
        assert [tuple(json.loads(line)["labels"]) for line in file] == [one.labels for one in found]
    assert main(["test", "model", "rows.csv"]) == 0
    assert "f1_macro" in capsys.readouterr().out
    assert main(["calibrate", "model", "rows.csv", "--epsilon", "0.3", "--max_drop", "0.1"]) == 0
    assert "as a share of all labels of all samples" in capsys.readouterr().out
    assert ModelSpec.read("model").guarantees["entropy"]
    assert main(["inspect", "model", "--text", "w1 w2", "--format", "json"]) == 0
    seen = json.loads(capsys.readouterr().out)["texts"][0]
    assert seen["answer"] == list(classify("w1 w2").labels)
    with pytest.raises(UserError, match=r"a reranker needs two labels.*\(several a row\)"):
        mebert.EarlyExitReranker(classify)
