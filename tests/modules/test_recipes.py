"""Every recipe in one table: the loss in evaluation, a step in regression, mistakes, and a run by the command line."""

import json

import pytest
import torch
from modules.recipes import labelled, loader, make
from runs import experiment, newest, run, write_config
from tiny import quiet_trainer
from torch.nn import functional as F

import mebert
from mebert import modules
from mebert.errors import UserError
from mebert.inference import make_engine, prepare_model, prepare_policy
from mebert.inference.classifier import EarlyExitClassifier
from mebert.models import MultiExitModel, model_inputs
from mebert.policies import Entropy
from mebert.storage.checkpoints import read_checkpoint

STAGED = {"student_learning_rate": 1e-2}
# Recipe to the policy that is chosen on validation data, the parts of its training loss, and its own settings.
RECIPES = {
    "BERxiTModule": ("learned", {"last", "ce", "lte"}, {}),
    "CurriculumDistillModule": ("entropy", {"ce", "kd"}, {}),
    "DeeBERTModule": ("entropy", {"ce"}, STAGED),
    "ElasticBERTModule": ("entropy", set(), {}),
    "FastBERTModule": ("entropy", {"ce", "kd"}, STAGED),
    "GEEPModule": ("entropy", {"ce", "kd"}, {}),
    "GPFEEModule": ("entropy", {"ce", "imitation"}, {}),
    "LearnedWeightsModule": ("entropy", {"ce", "weight_01"}, {}),
    "MultiExitModule": ("entropy", set(), {}),
    "PABEEModule": ("patience", set(), {}),
    "ProtoExitModule": ("edr", {"ce", "dar"}, {}),
    "RomeBERTModule": ("entropy", {"ce", "kd", "last"}, {}),
    "SelfDistillModule": ("stacked", {"ce", "kd"}, {}),
}


def test_no_recipe_is_left_out():
    assert set(RECIPES) == set(modules.__all__)


@pytest.mark.parametrize(
    ("recipe", "given"), [*((name, {}) for name in RECIPES), ("MultiExitModule", {"exit_weights": "depth"})]
)
def test_the_loss_in_evaluation_is_the_cross_entropy(recipe, given):
    module, batch = make(getattr(mebert, recipe), **given).eval(), labelled()
    outputs = module(**model_inputs(batch))
    losses = torch.stack([F.cross_entropy(logits, batch["labels"]) for logits in outputs.logits])
    by_depth = given or recipe in ("GPFEEModule", "PABEEModule")
    weights = torch.tensor([1.0, 2.0, 3.0]) / 6 if by_depth else torch.full((3,), 1 / 3)
    parts = module.compute_loss(outputs, batch)
    found = parts.get("ce", parts["loss"])  # GPFEE and ProtoExit add a term of their own to it
    torch.testing.assert_close(found, (weights * losses).sum().to(found))


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "ProtoExitModule"])
def test_regression(recipe):
    module, batch = make(getattr(mebert, recipe), num_labels=1), labelled(num_labels=1)
    loss = module.compute_loss(module(**model_inputs(batch)), batch)["loss"]
    assert torch.isfinite(loss)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    assert module.policy.name == RECIPES[recipe][0].replace("entropy", "change").replace("patience", "change").replace(
        "stacked", "change"
    )
    assert set(module.score_policies()) <= {"change", "learned"}


@pytest.mark.parametrize("recipe", [name for name, (_, _, settings) in RECIPES.items() if settings is not STAGED])
def test_a_rate_for_all_but_the_encoder(recipe):
    module = make(getattr(mebert, recipe), head_learning_rate=0.01, learning_rate=1e-4)
    before = {name: p.detach().clone() for name, p in module.model.named_parameters()}
    quiet_trainer().fit(module, loader(1, padded=True))
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in module.model.named_parameters()}
    # Adam's first step is the rate itself; what this batch gives no gradient stays where it is.
    fast = {name for name, size in moved.items() if size > 2e-4}
    assert fast >= {"exits.2.classifier.3.weight", "exits.2.classifier.3.bias"}
    assert all(moved[name] == pytest.approx(0.01, rel=0.01) for name in fast)
    assert not any(name.startswith("encoder.") for name in fast)
    assert not [name for name, size in moved.items() if 0 < size < 2e-4 and not name.startswith("encoder.")]


@pytest.mark.parametrize("recipe", RECIPES)
def test_saved_and_loaded(tmp_path, recipe):
    model, batch = make(getattr(mebert, recipe), spread=0.1).model.eval(), labelled(5)
    inputs = model_inputs(batch)
    model.save_pretrained(tmp_path / "model", policy=Entropy(0.4))
    again = MultiExitModel.from_pretrained(tmp_path / "model")
    assert type(again) is type(model)
    assert again.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        wanted = model(**inputs).logits
        torch.testing.assert_close(again(**inputs).logits, wanted, rtol=0, atol=0)
    for engine in ("full", "shrink"):
        fast = prepare_model(again)
        done = make_engine(engine, fast, prepare_policy(Entropy(0.4).bind(again), fast)).feed(inputs, torch.arange(5))
        torch.testing.assert_close(done.logits.clone(), wanted[done.exits, torch.arange(5)], rtol=1e-4, atol=1e-4)


# What MultiExitModule, BERxiT, DeeBERT and ProtoExit do in a run, others do, too.
QUICK = ("ProtoExitModule", "DeeBERTModule")  # prototypes, stages


@pytest.mark.parametrize(
    "recipe", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]
)
def test_fit_test_save_and_predict(here, recipe):
    policy, parts, init_args = RECIPES[recipe]
    settings = experiment(recipe, target_speedup=1.2, **init_args)
    settings["trainer"]["max_epochs"] = 2 if init_args is STAGED else 1
    settings["curve"] |= {"wall_samples": 0}
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    folder = newest(here)
    logged = set((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(","))
    assert {"val/score", "val/loss", *(f"train/{part}" for part in parts)} <= logged
    best = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert best["epoch"] == settings["trainer"]["max_epochs"] - 1, "of the second stage"
    assert policy in best["mebert"]["operating_points"]
    saved = json.loads((folder / "model" / "exits.json").read_text(encoding="utf-8"))
    assert saved["policy"] == json.loads(json.dumps(best["mebert"]["policy"]))
    classify = EarlyExitClassifier.from_pretrained(str(folder / "model"))
    assert classify.policy.name == policy
    predictions = classify([("all a are b", "some a are b"), ("no a is b", "some a are b")])
    assert all(1 <= prediction.exit <= 3 for prediction in predictions)
    config = str(folder / "config.yaml")
    assert run("predict", "--config", config, "--ckpt_path", "best", "--predictions.path", "out.csv") == 0
    assert len((here / "out.csv").read_text(encoding="utf-8").splitlines()) == 42


NO_WEIGHTS = ("BERxiT", "DeeBERT", "ElasticBERT", "FastBERT", "GEEP", "LearnedWeights", "RomeBERT")


# Numbers that no setting may be are in tests/faults/test_ranges.py; these are bounds that belong to no range.
@pytest.mark.parametrize(
    ("recipe", "settings", "text"),
    [
        *((f"{name}Module", {"exit_weights": "depth"}, rf"exit_weights \(depth\).* {name}") for name in NO_WEIGHTS),
        ("MultiExitModule", {"warmup_ratio": 1.5}, r"warmup_ratio must be in \[0, 1\], got 1.5"),
        ("MultiExitModule", {"target_speedup": 0.5}, "target_speedup must be at least 1, got 0.5"),
        ("MultiExitModule", {"dropout": 1.0}, "dropout"),
        ("ProtoExitModule", {"num_labels": 1}, "num_labels=1"),
        ("ProtoExitModule", {"lam_grid": ()}, "lam_grid"),
        ("ProtoExitModule", {"gamma": 0.0}, r"gamma must be in \(0, 1\], got 0.0"),
        ("FastBERTModule", {"stage1_epochs": 0}, "stage1_epochs must be at least 1, got 0"),
        *((f"{n}Module", {"exit_layers": [3]}, "at least 2 exits") for n in ("DeeBERT", "GPFEE", "ProtoExit")),
        ("DeeBERTModule", {"head": "shared"}, "head shared has no place in DeeBERT"),
        (
            "FastBERTModule",
            {"head_learning_rate": 1e-3},
            r"head_learning_rate \(0.001\).* FastBERT.*student_learning_rate",
        ),
        ("BERxiTModule", {"routine": "lte"}, "routine must be alternate-lte or alternate, got 'lte'"),
        ("GPFEEModule", {"head": "linear"}, "head linear has no place in GPFEE"),
        ("GEEPModule", {"num_students": 3}, "num_students must be from 1 to 2 for an encoder of 3 layers, got 3"),
        ("GEEPModule", {"layers": 1}, "at least 2 layers, got 1"),
        ("GEEPModule", {"exit_layers": [2, 3]}, r"exit_layers \(\[2, 3\]\).*give num_students"),
        ("CurriculumDistillModule", {"projection": True}, "feature_weight is 0"),
    ],
)
def test_mistakes_name_the_argument_and_its_value(recipe, settings, text):
    with pytest.raises(UserError, match=text):
        make(getattr(mebert, recipe), **settings)
