"""`python -m mebert calibrate` from end to end: what it stores does what it says, in the classifier and in predict."""

import json
import re
import shlex
import shutil
from contextlib import chdir, redirect_stdout
from io import StringIO

import pytest
from runs import experiment, newest, run, write_config
from scipy.stats import binom
from sklearn.metrics import accuracy_score
from tiny import tiny_model, words_tokenizer

from mebert import EarlyExitClassifier, SyntheticEntailmentDataModule
from mebert.calibration.points import Request
from mebert.cli.main import main
from mebert.commands.calibrate.command import CalibrationSettings
from mebert.commands.calibrate.run import run_calibration
from mebert.data.synthetic_splits import SyntheticSplits
from mebert.policies import Entropy
from mebert.storage.model_spec import ModelSpec

SAMPLES, LAYERS = 300, 3
ASKED = ["--speedup", "[1.2,1.4]", "--max_drop", "0.05", "--epsilon", "0.08", "--layers", "2.5", "--policies"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few seconds with 300 validation rows, calibrated; and what was printed."""
    folder = tmp_path_factory.mktemp("trained")
    settings = experiment()
    settings["data"]["init_args"]["eval_samples"] = SAMPLES
    # So that the rows' scores differ by more than rounding, which another size of batches may do otherwise.
    settings["model"]["init_args"]["encoder_config"]["initializer_range"] = 0.5
    settings["trainer"]["max_epochs"] = 1
    settings["test_after_fit"] = False
    with chdir(folder):
        assert run("fit", "--config", str(write_config(folder, settings))) == 0
        with redirect_stdout(StringIO()) as printed:
            assert main(["calibrate", "--model", str(newest(folder)), *ASKED, "[edr,entropy]", *FAST]) == 0
    return newest(folder), printed.getvalue()


FAST = ["--precision", "float32", "--device", "cpu"]


@pytest.fixture(scope="module")
def rows():
    """Pairs of texts and gold labels of the validation split."""
    data = SyntheticEntailmentDataModule(train_samples=96, eval_samples=SAMPLES, batch_size=16, eval_batch_size=8)
    data.setup("validate")
    texts = data.texts("val", range(SAMPLES))
    names = data.label_names
    labels = [names[label] for label in data.split("val").labels]
    return list(zip(texts["hypothesis"], texts["premise"], strict=True)), labels


@pytest.fixture(scope="module")
def classify(trained):
    return EarlyExitClassifier.from_pretrained(trained[0], device="cpu", precision="float32")


@pytest.mark.parametrize("policy", ["edr", "entropy"])
def test_what_is_stored_keeps_to_what_was_asked(trained, rows, classify, policy):
    texts, labels = rows
    settings = json.loads((trained[0] / "model/exits.json").read_text())

    def answers(**how):
        found = classify(texts, policy=policy, **how)
        return [a.label for a in found], [a.exit for a in found]

    full, _ = answers(threshold=0.0)
    for speedup in (1.2, 1.4):
        if speedup in classify.operating_points[policy]:
            _, exits = answers(speedup=speedup)
            assert LAYERS * SAMPLES / sum(exits) >= speedup - 1e-9
    measured, _ = answers(threshold=settings["max_drops"][policy]["0.05"])
    assert accuracy_score(labels, measured) >= accuracy_score(labels, full) - 0.05 - 1e-6
    kept, exits = answers(max_drop=0.05)
    assert kept == measured
    guaranteed = settings["guarantees"][policy]["0.08"]
    early, _ = answers(max_drop=0.08)
    assert early == answers(threshold=guaranteed["threshold"])[0]
    mistakes = sum(f == y != e for f, e, y in zip(full, early, labels, strict=True))
    assert mistakes / SAMPLES == pytest.approx(guaranteed["measured"])
    assert binom.cdf(mistakes, SAMPLES, 0.08) <= 0.1
    assert [guaranteed[k] for k in ("loss", "epsilon", "delta", "samples")] == ["mistakes", 0.08, 0.1, SAMPLES]


def test_the_table_says_what_was_guaranteed_and_what_was_not(trained):
    printed = trained[1]
    assert "300 samples of the run, val (float32)" in printed
    for text in ("max_drop 0.05", "epsilon 0.08, delta 0.1", "2.5 layers on average", "nothing: measured here"):
        assert text in printed
    assert "wrong where the full model is right" in printed
    assert "ask for delta / k" in printed, "two policies have guarantees"
    assert "if these rows chose the model's checkpoint" in printed


def test_the_exits_are_those_that_the_classifier_takes(trained, rows, classify):
    asked = [Request("layers", 2.3), Request("max_drop", 0.1), Request("gflops", 1.0), Request("speedup_flops", 1.1)]
    asked += [Request("guarantee", 0.2, 0.05, name) for name in ("disagreement", "mistakes")]
    settings = CalibrationSettings(str(trained[0]), precision="float32", device="cpu", save=False, batch_size=7)
    before = (trained[0] / "model/exits.json").read_bytes()
    found = run_calibration(settings, asked)
    assert (trained[0] / "model/exits.json").read_bytes() == before, "save=False"
    for answer in found:
        exits = [a.exit for a in classify(rows[0], threshold=answer.point.threshold)]
        assert exits == (answer.point.exits + 1).tolist()
        if answer.request.kind == "layers":
            assert sum(exits) / SAMPLES <= 2.3
        if answer.request.kind == "speedup_flops":
            assert answer.point.speedup_flops >= 1.1 - 1e-9
        if answer.request.kind == "gflops":
            assert answer.point.threshold == 0.0, "a budget above the full model's cost asks for nothing"


def test_predict_takes_a_speedup_that_was_calibrated(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(trained[0], tmp_path / "run")
    common = ["predict", "--config", str(folder / "config.yaml"), "--ckpt_path", str(folder / "checkpoints/best.ckpt")]
    assert run(*common, "--speedup", "1.35") == 2
    assert "no edr threshold for a speed-up of 1.35" in capsys.readouterr().err
    capsys.readouterr()
    assert main(["calibrate", "--model", str(folder), "--speedup", "1.35", *FAST]) == 0
    (line,) = re.findall(r"  predict  python -m mebert (.*)", capsys.readouterr().out)
    assert shlex.split(line) == ["predict", str(folder), "my.csv", "--speedup", "1.35", "--out", "out.csv"]
    threshold = ModelSpec.read(folder / "model").operating_points["edr"][1.35]
    assert run(*common, "--speedup", "1.35", "--out", "speedup.csv") == 0
    assert run(*common, "--predictions.threshold", repr(threshold), "--out", "threshold.csv") == 0
    assert (tmp_path / "speedup.csv").read_text() == (tmp_path / "threshold.csv").read_text()


def test_a_threshold_for_each_exit_is_stored_and_used(trained, rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(trained[0], tmp_path / "run")
    asked = ["--speedup", "1.3", "--max_drop", "0.02", "--epsilon", "0.1", "--p_value", "wsr", "--use", "entropy"]
    assert main(["calibrate", str(folder), *asked, "--per_exit", "true", *FAST]) == 0
    printed = capsys.readouterr().out
    spec = ModelSpec.read(folder / "model")
    assert spec.guarantees["entropy"][0.1].p_value == "wsr"
    assert spec.guarantees["entropy"][0.1].samples == SAMPLES - SAMPLES // 3, "a third chose how they stand"
    threshold = spec.operating_points["entropy"][1.3]
    if not isinstance(threshold, tuple):  # none is better than one for all: then as if a user had given two
        threshold = (0.2, 0.9)
        with ModelSpec.change(folder / "model") as spec:
            spec.operating_points["entropy"][1.3] = threshold
            spec.policy["init_args"]["threshold"] = threshold
    text = f"[{threshold[0]!r},{threshold[1]!r}]"
    assert "entropy, threshold" in printed
    opened = EarlyExitClassifier.from_pretrained(folder, device="cpu", precision="float32")
    assert opened.policy.threshold == threshold
    exits = [a.exit for a in opened(rows[0], speedup=1.3)]
    for engine in ("full", "refill"):
        assert [a.exit for a in opened(rows[0], threshold=list(threshold), engine=engine)] == exits
    lines = "\n".join(f"{a},{b},{y}" for (a, b), y in zip(*rows, strict=True))
    (tmp_path / "rows.csv").write_text(f"text,other,label\n{lines}\n")
    common = [str(folder), "rows.csv", "--text_pair_column", "other", *FAST]
    for name, how in (("a", ["--speedup", "1.3"]), ("b", ["--threshold", text]), ("c", [])):
        assert main(["predict", *common, *how, "--out", f"{name}.csv"]) == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text() == (tmp_path / "c.csv").read_text()
    capsys.readouterr()
    assert main(["test", *common, "--threshold", text]) == 0
    assert f"threshold [{threshold[0]:.4g},{threshold[1]:.4g}]" in capsys.readouterr().out
    assert main(["inspect", str(folder), "--pair", *rows[0][0], *FAST]) == 0
    assert f"{threshold[0]:.4f}" in capsys.readouterr().out
    assert main(["predict", *common, "--threshold", "[0.5,0.5,0.5]", "--out", "d.csv"]) == 2
    assert "has 3 number(s), but the model has 3 exits: give one number, or 2" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_trains_tests_and_reports_with_a_threshold_for_each_exit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [0.5, 0.99996]
    settings = experiment("MultiExitModule", per_exit=True, threshold=given)
    assert run("fit", "--config", str(write_config(tmp_path, settings))) == 0
    folder = newest(tmp_path)
    spec = ModelSpec.read(folder / "model")
    assert spec.policy["init_args"]["threshold"] == given
    assert spec.chosen_by == "threshold [0.5,0.99996]"
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["operating_point"]["threshold"] == given
    reported = {p["target"]: p["threshold"] for p in evaluation["operating_points"]["entropy"]}
    stored = spec.operating_points["entropy"]
    assert reported == {t: list(at) if isinstance(at, tuple) else at for t, at in stored.items() if t in reported}
    assert "entropy, threshold [0.5,0.99996]" in (folder / "report.md").read_text()
    assert run("test", str(folder)) == 0
    assert main(["compare", str(folder), str(folder)]) == 0


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A model folder that belongs to no run, and a file of labelled texts."""
    monkeypatch.chdir(tmp_path)
    names = ["no", "maybe", "yes"]
    tiny_model(label_names=names).save_pretrained("model", words_tokenizer(), Entropy())
    lines = [f"w{i % 40} w{i % 7},{names[i % 3]}" for i in range(60)]
    (tmp_path / "own.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return tmp_path / "model"


def test_rows_of_a_file(saved, capsys):
    assert main(["calibrate", "--model", "model", "--file", "own.csv", "--max_drop", "0.99", *FAST]) == 0
    said = capsys.readouterr().out
    assert "60 samples of own.csv" in said
    assert "mebert predict model my.csv --max_drop 0.99 --out out.csv" in said
    classify = EarlyExitClassifier.from_pretrained("model", device="cpu", precision="float32")
    loosest = classify.max_drops["entropy"][0.99]  # every drop is allowed: the largest threshold that changes anything
    texts = [f"w{i % 40} w{i % 7}" for i in range(60)]
    assert [a.exit for a in classify(texts, max_drop=0.99)] == [a.exit for a in classify(texts, threshold=1.0)]
    assert 0 < loosest <= 1


def test_what_is_out_of_reach_is_said_and_not_stored(saved, capsys):
    assert main(["calibrate", "--model", "model", "--file", "own.csv", "--speedup", "3.5", *FAST]) == 0
    assert "entropy does not reach 3.5x by layers here: at most" in capsys.readouterr().out
    assert "3.5" not in json.dumps(ModelSpec.read("model").operating_points)


def test_a_model_in_no_run_needs_rows(saved, capsys):
    assert main(["calibrate", "model", "--speedup", "2", *FAST]) == 2
    assert "not in the folder of a run: say by task or file" in capsys.readouterr().err


def test_test_rows_that_are_the_validation_rows_are_named(trained, capsys, monkeypatch):
    """As where a task hides its test labels: the promise is as weak by the one name as by the other."""
    arguments = ["calibrate", "--model", str(trained[0]), "--split", "test", "--epsilon", "0.2", "--save", "false"]
    assert main([*arguments, *FAST]) == 0
    assert "Note" not in capsys.readouterr().out
    load = SyntheticSplits.load_splits

    def hidden(self, groups):
        return {name: table for name, table in load(self, groups).items() if name != "test"}

    monkeypatch.setattr(SyntheticSplits, "load_splits", hidden)
    assert main([*arguments, *FAST]) == 0
    assert "the test rows are the validation rows here" in capsys.readouterr().out


def test_a_policy_fitted_here_can_be_made_the_models_own(trained, rows, tmp_path):
    folder = str(shutil.copytree(trained[0], tmp_path / "run"))
    before = json.loads((tmp_path / "run/model/exits.json").read_text())
    args = ["calibrate", "--model", folder, "--speedup", "1.3", "--epsilon", "0.3"]
    args += ["--policies", "[stacked,pcee,margin]"]
    with redirect_stdout(StringIO()) as printed:
        assert main([*args, *FAST]) == 0
    settings = json.loads((tmp_path / "run/model/exits.json").read_text())
    assert "stacked: fitted to 100 of these rows, held out below" in printed.getvalue(), "a guarantee was requested"
    (line,) = re.findall(r"  predict  python -m mebert (.*)", printed.getvalue())
    asked = ["--speedup", "1.3", "--policy", "margin"]
    assert shlex.split(line) == ["predict", folder, "my.csv", *asked, "--out", "out.csv"], "its own is edr"
    (tmp_path / "my.csv").write_text("hypothesis,premise\nanna likes dogs,anna likes cats\n", encoding="utf-8")
    with chdir(tmp_path):
        assert main([*shlex.split(line), *FAST]) == 0
    assert (tmp_path / "out.csv").exists()
    assert "Not stored: pcee, stacked, fitted here" in printed.getvalue()
    assert "margin" in settings["guarantees"]
    added = {*settings["guarantees"], *settings["operating_points"]} - {*before["operating_points"]}
    assert not {"stacked", "pcee"} & added
    with redirect_stdout(StringIO()) as printed:
        assert main([*args, "--use", "stacked", *FAST]) == 0
    settings = json.loads((tmp_path / "run/model/exits.json").read_text())
    assert settings["guarantees"]["stacked"]["0.3"]["samples"] == 200
    classify = EarlyExitClassifier.from_pretrained(tmp_path / "run/model", device="cpu", precision="float32")
    assert classify.policy.name == "stacked"
    assert len(classify.policy.weights) == LAYERS
    exits = [answer.exit for answer in classify(rows[0])]
    assert LAYERS * SAMPLES / sum(exits) > 1.25, "chosen on 200 of these 300 rows"
    assert run("calibrate", "--model", folder, "--speedup", "1.3", "--policies", "[margin]", "--use", "edr") == 2
    before = (tmp_path / "run/model/exits.json").read_bytes()
    unreachable = ["--speedup", "[99,1.1]", "--policies", "[scaled]", "--use", "scaled"]
    assert main(["calibrate", "--model", folder, *unreachable, *FAST]) == 2
    assert (tmp_path / "run/model/exits.json").read_bytes() == before, "nothing of what was fitted is stored alone"
