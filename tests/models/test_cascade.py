"""A cascade of whole models behind the protocol of one: engines, cost, folders, the command line."""

import json
from functools import cache

import pytest
import torch
from runs import experiment, newest, run, write_config
from tiny import VOCABULARY, counted_flops, tiny_batch, tiny_config, words_tokenizer

from mebert import CascadeModel, EarlyExitClassifier, UserError, fit_prototypes
from mebert.exit_predictor import ExitPredictor
from mebert.inference import make_engine, prepare_model, prepare_policy, run_engine, run_shrink
from mebert.metrics.curve import replay
from mebert.models import MultiExitModel, PastFutureModel, build_encoder
from mebert.models.flops import direct_exit_flops, exit_flops, single_exit_flops
from mebert.policies import DistanceRatio, FixedExit, LearnedToExit, MaxProbability, ValueChange

ROWS = 40


def member(layers, width, family="bert", num_labels=3, kind=MultiExitModel, seed=0, vocabulary=VOCABULARY, **settings):
    """A tiny model with random weights, its heads spread out."""
    torch.manual_seed(seed)
    sizes = {"n_layers": layers, "dim": width} if family == "distilbert" else {}
    sizes = sizes or {"num_hidden_layers": layers, "hidden_size": width}
    encoder = build_encoder("unused", tiny_config(family, **sizes) | {"vocab_size": vocabulary})
    model = kind(encoder, num_labels=num_labels, **settings).eval()
    with torch.no_grad():
        for parameter in model.exits.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def members(num_labels=3):
    """A small one, a wide one of another family, a deep one whose exits look back."""
    return [
        member(1, 16, num_labels=num_labels, pooling="mean"),
        member(2, 64, "distilbert", num_labels, pooling="cls", seed=1),
        member(3, 32, num_labels=num_labels, kind=PastFutureModel, pooling="fastbert", exit_layers=[1, 3], seed=2),
    ]


@cache
def cascade(num_labels=3):
    """The cascade, with prototypes and a learning-to-exit head, and its prepared copy."""
    model = CascadeModel(members(num_labels)).eval()
    model.exit_scorer = torch.nn.Linear(model.feature_size, 1)
    if num_labels > 1:
        model.prototypes = fit_prototypes(model, [{**tiny_batch(30, seed=9), "labels": torch.arange(30) % 3}])
    return model, prepare_model(model)


def test_each_exit_is_a_whole_model():
    model, batch = cascade()[0], tiny_batch()
    with torch.no_grad():
        out = model(**batch)
        assert out.features.shape == (3, 5, 128)  # of the widest: FastBERT's pooling
        for index, alone in enumerate(members()):
            torch.testing.assert_close(out.logits[index], alone.last_exit(**batch))
            feature = alone(**batch).features[-1]
            torch.testing.assert_close(out.features[index, :, : feature.shape[-1]], feature)
            assert not out.features[index, :, feature.shape[-1] :].any()
        torch.testing.assert_close(model.last_exit(**batch), out.logits[-1])
    assert model.exit_layers == (1, 3, 6)
    assert model.num_layers == 3


def test_segments_reach_every_model():
    model, batch = cascade()[0], tiny_batch()
    segments = torch.arange(9).expand(5, 9) // 5
    with torch.no_grad():
        for index, alone in enumerate(members()):
            wanted = alone.last_exit(**batch, token_type_ids=segments)
            torch.testing.assert_close(model(**batch, token_type_ids=segments).logits[index], wanted)
        assert not torch.allclose(model(**batch, token_type_ids=segments).logits[0], model(**batch).logits[0])


class Mixed(ExitPredictor):
    """Predicts exit (first token) mod E."""

    def predict(self, input_ids, attention_mask):
        return input_ids[:, 0] % 3


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("engine", ["full", "shrink", "refill", "predicted"])
@pytest.mark.parametrize(
    "policy", [MaxProbability(), DistanceRatio(), LearnedToExit(), ValueChange(), FixedExit(exit=2)], ids=type
)
def test_engines_take_the_exits_of_the_sweep(fast, engine, policy):
    model, prepared = cascade(1 if isinstance(policy, ValueChange) else 3)
    policy, batch = policy.bind(model), tiny_batch(ROWS, tokens=11, seed=3)
    with torch.inference_mode():
        out = model(**batch)
        scores = policy.score_exits(out.logits, out.features)
    if engine == "predicted":
        exits = Mixed(model.num_exits).predict(**batch)
    elif isinstance(policy, FixedExit):
        exits = torch.full((ROWS,), 1)
    else:
        values = scores[:-1][scores[:-1].isfinite()].sort().values
        gaps = ((values[1:] + values[:-1]) / 2)[values[1:] - values[:-1] > 1e-4]
        policy = policy.with_threshold(float(gaps[len(gaps) // 2]))
        exits = replay(scores, policy.threshold)
        assert len(exits.unique()) > 1
    chosen, rule = (prepared, prepare_policy(policy, prepared)) if fast else (model, policy)
    parts = []
    for rows in torch.arange(ROWS).split(7):  # of different widths, so that `refill` has to join them
        longest = int(batch["attention_mask"][rows].sum(1).max())
        parts.append(({name: value[rows, :longest] for name, value in batch.items()}, rows))
    done = run_engine(make_engine(engine, chosen, rule, batch_size=5, predictors=[Mixed(model.num_exits)]), parts)
    assert done.exits.tolist() == exits.tolist()
    torch.testing.assert_close(done.logits, out.logits[exits, torch.arange(ROWS)], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_low_precision_is_that_of_each_model(precision):
    model, batch = cascade()[0], tiny_batch(12, seed=2)
    with torch.inference_mode():
        found = prepare_model(model, precision)(**batch).logits
        for index in range(3):
            torch.testing.assert_close(found[index], prepare_model(model.member(index), precision).last_exit(**batch))


def test_flops_equal_to_the_counter():
    model = CascadeModel(members()).eval()
    batch = tiny_batch(batch=2, tokens=9, padded=False)
    lengths = batch["attention_mask"].sum(1)
    assert single_exit_flops(model, lengths).sum() == counted_flops(lambda: members()[-1].last_exit(**batch))
    for index, alone in enumerate(members()):
        straight = direct_exit_flops(model, lengths)[index].sum()
        assert straight == counted_flops(lambda m=alone: m.last_exit(**batch))
        assert straight == counted_flops(lambda i=index: run_shrink(model, FixedExit(exit=i + 1), batch))
        tried = exit_flops(model, lengths)[index].sum()
        assert tried == counted_flops(
            lambda i=index: list(zip(range(i + 1), model.forward_layers(**batch), strict=False))
        )
    never = MaxProbability(1e-9).bind(model)
    assert exit_flops(model, lengths, never)[-1].sum() == counted_flops(lambda: run_shrink(model, never, batch))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = []
    for number, model in enumerate(members()):
        found.append(tmp_path_factory.mktemp("member") / str(number) / "model")
        model.save_pretrained(found[-1], words_tokenizer())
    return found


def test_from_folders_saved_and_opened_again(folders, tmp_path):
    model, batch = CascadeModel.from_folders([folders[0].parent, *folders[1:]]), tiny_batch()
    with torch.no_grad():
        wanted = CascadeModel(members()).eval()(**batch).logits
        torch.testing.assert_close(model(**batch).logits, wanted)
        model.save_pretrained(tmp_path / "m", words_tokenizer(), MaxProbability(0.3), operating_points={})
        again = MultiExitModel.from_pretrained(tmp_path / "m")
        assert type(again) is CascadeModel
        torch.testing.assert_close(again(**batch).logits, wanted)
    assert type(again.member(2)) is PastFutureModel
    assert not again.training
    classify = EarlyExitClassifier.from_pretrained(tmp_path / "m", device="cpu", precision="float32")
    text = "w1 w7 w20"
    with torch.no_grad():
        logits = model(**words_tokenizer()(text, return_tensors="pt")).logits[:, 0]
    for threshold, exit_number in ((1.0, 1), (0.0, 3)):
        answer = classify(text, threshold=threshold)
        assert answer.exit == exit_number
        assert [*answer.probabilities.values()] == pytest.approx(logits[exit_number - 1].softmax(-1).tolist(), abs=1e-5)


def test_mistakes_are_named(folders, tmp_path):
    other = member(1, 16, label_names=["a", "b", "c"])
    larger = member(1, 16, vocabulary=VOCABULARY + 1)
    for parts, text in (
        (members()[:1], "needs at least 2 models, got 1"),
        ([members()[0], other], "same labels in the same order: model 1 has LABEL_0.*model 2 has a, b, c"),
        ([members()[0], larger], f"one vocabulary: model 1 has {VOCABULARY} tokens, and model 2 has {VOCABULARY + 1}"),
    ):
        with pytest.raises(UserError, match=text):
            CascadeModel(parts)
    members()[0].save_pretrained(tmp_path / "m", words_tokenizer(reverse=True))
    with pytest.raises(UserError, match=r"tokenizers of .* differ"):
        CascadeModel.from_folders([folders[0], tmp_path / "m"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no saved mebert model"):
        CascadeModel.from_folders([folders[0], tmp_path / "empty"])
    with pytest.raises(UserError, match="is no folder of a cascade"):
        CascadeModel.from_pretrained(folders[0])
    for num_labels, text in ((3, "saved without prototypes"), (1, "saved without exit_scorer")):
        with pytest.raises(UserError, match=text):
            cascade(num_labels)[0].save_pretrained(tmp_path / "c")
    CascadeModel.from_folders(folders).save_pretrained(tmp_path / "c")
    with pytest.raises(UserError, match="is a CascadeModel and no PastFutureModel"):
        PastFutureModel.from_pretrained(tmp_path / "c")
    settings = json.loads((tmp_path / "c" / "exits.json").read_text())
    assert settings["members"] == ["model_1", "model_2", "model_3"]


def test_two_runs_become_a_cascade_that_is_calibrated_and_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs = []
    for layers in (1, 3):
        settings = experiment("MultiExitModule")
        settings["model"]["init_args"]["encoder_config"]["num_hidden_layers"] = layers
        settings["trainer"]["max_epochs"] = 1
        settings |= {"test_after_fit": False, "curve": {"wall_samples": 0}}
        write_config(tmp_path, settings)
        assert run("fit", "--config", "tiny.yaml") == 0
        runs.append(str(newest(tmp_path).relative_to(tmp_path)))
    capsys.readouterr()
    from mebert.cli.main import main

    assert main(["cascade", "--models", *runs]) == 0
    printed = capsys.readouterr().out
    assert "Cascade of 2 models (1 layers of 16, 3 layers of 16): runs/cascade" in printed
    assert "operating point  max_prob, threshold 0, full depth" in printed, "no validation data has chosen one yet"
    command = printed.splitlines()[-1].partition("python -m mebert ")[2].split()
    assert main(command) == 0  # as a person would type it
    printed = capsys.readouterr().out
    assert "in turn (4 layers)" in " ".join(printed.split())
    saved = json.loads((tmp_path / "runs/cascade/model/exits.json").read_text())
    assert "0.005" in saved["max_drops"]["max_prob"]
    answers = EarlyExitClassifier.from_pretrained("runs/cascade")([("all a are b", "no a is b")], max_drop=0.005)
    assert answers[0].exit in (1, 2)
    assert "(by calibrate, max_drop 0.005)" in printed
    assert main(["cascade", "--models", *runs]) == 2
    assert "runs/cascade holds a model already; give another folder by --out" in capsys.readouterr().err
    assert main(["cascade"]) == 2
    assert "models is missing" in capsys.readouterr().err
    assert main(["bench", "--model", "runs/cascade"]) == 2
    assert "is a cascade of 2 models, and bench measures one" in capsys.readouterr().err
