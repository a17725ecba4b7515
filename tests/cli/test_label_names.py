"""The names of labels and their order are the model's, in every command; data that say otherwise are refused."""

import itertools
import json
import shutil

import lightning as L
import pytest
import yaml
from runs import newest, read_csv, run, text_experiment, write_config, write_rows

import mebert
from mebert.cli.main import main
from mebert.errors import UserError
from mebert.metrics.record_files import load_record, save_record

NAMES = ["bad", "fair", "good"]
WORDS = ["the", "film", *NAMES]
BEST = "runs/tiny/version_0/checkpoints/best.ckpt"
CONFIG = "runs/tiny/version_0/config.yaml"


def rows(count, names=NAMES):
    return [{"text": f"{NAMES[n % 3]} " * 4, "label": names[n % 3]} for n in range(count)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, monkeypatch_module):
    """A run on own files whose settings leave the labels to the training file; it tells the classes apart."""
    folder = tmp_path_factory.mktemp("labels") / "own"
    folder.mkdir()
    monkeypatch_module.chdir(folder)
    splits = {"train": rows(96), "validation": rows(24), "test": rows(30)}
    settings = text_experiment(folder, splits, WORDS)
    settings["model"]["init_args"]["learning_rate"] = 1e-2
    settings["trainer"]["max_epochs"] = 10
    write_config(folder, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    return folder


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def own(trained, tmp_path, monkeypatch):
    """A copy of the run as the working directory."""
    folder = tmp_path / "own"
    shutil.copytree(trained, folder)
    text = (folder / CONFIG).read_text(encoding="utf-8").replace(str(trained), str(folder))
    (folder / CONFIG).write_text(text, encoding="utf-8")
    text = (folder / "tiny.yaml").read_text(encoding="utf-8").replace(str(trained), str(folder))
    (folder / "tiny.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def accuracy(folder):
    return json.loads((newest(folder) / "evaluation.json").read_text(encoding="utf-8"))["exits"][-1]["acc"]


def test_a_run_says_its_labels(trained):
    saved = yaml.safe_load((trained / CONFIG).read_text(encoding="utf-8"))["data"]["init_args"]
    spec = json.loads((trained / "runs/tiny/version_0/model/exits.json").read_text(encoding="utf-8"))
    assert saved["labels"] == spec["label_names"] == NAMES
    assert accuracy(trained) == 1.0


OTHERS = [("test", list(order)) for order in itertools.permutations(NAMES) if list(order) != NAMES]
OTHERS += [("test", ["bad", "fair", "GOOD"]), ("validate", NAMES[::-1]), ("predict", NAMES[::-1])]


@pytest.mark.parametrize(
    ("command", "names"), [pytest.param(*one, marks=pytest.mark.slow) for one in OTHERS[2:6]] + OTHERS[:2] + OTHERS[6:]
)
def test_another_order_or_other_names_are_refused(own, capsys, command, names):
    assert run(command, "--config", CONFIG, "--ckpt_path", BEST, "--data.labels", json.dumps(names)) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert f"trained for bad, fair, good, in this order, and the labels here are {', '.join(names)}: leave it" in said


SLOW = [
    pytest.param(names, marks=pytest.mark.slow) for names in (["z", "y", "x"], ["zbad", "fair", "good"], NAMES[::-1])
]


@pytest.mark.parametrize("edited", [*SLOW, ["2", "1", "0"], None])
def test_a_training_file_that_changed_or_is_gone(own, edited):
    """Of a run of 0.1.0, whose `config.yaml` leaves the labels to that file."""
    settings = yaml.safe_load((own / CONFIG).read_text(encoding="utf-8"))
    settings["data"]["init_args"]["labels"] = None
    (own / CONFIG).write_text(yaml.safe_dump(settings), encoding="utf-8")
    if edited is None:
        (own / "train.csv").unlink()
    else:
        write_rows(own / "train.csv", rows(96, edited))
    given = ["--config", CONFIG, "--ckpt_path", BEST]
    assert run("test", *given) == 0
    assert accuracy(own) == 1.0
    assert run("predict", *given, "--predictions.path", "out.csv", "--data.predict_file", "test.csv") == 0
    assert [row["label"] for row in read_csv("out.csv")] == [row["label"] for row in rows(30)]
    assert main(["calibrate", "--model", "runs/tiny/version_0/model", "--max_drop", "0.01"]) == 0
    assert main(["inspect", "--model", BEST, "--text", "the bad film", "--out", "seen.json", "--samples", "8"]) == 0
    seen = json.loads((own / "seen.json").read_text(encoding="utf-8"))
    assert seen["label_names"] == NAMES


@pytest.mark.slow
def test_labels_of_the_test_file_that_the_model_lacks(own, capsys):
    write_rows(own / "test.csv", rows(6, ["0", "1", "2"]))  # positions
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", BEST) == 0
    assert accuracy(own) == 1.0
    write_rows(own / "test.csv", rows(6, ["bad", "FAIR", "good"]))
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", BEST) == 2
    assert "line 3: label 'FAIR' is none of the classes bad, fair, good (0..2); write 'fair'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("[Yes, No]", """expected a string (quote what YAML reads as a number, true or null: '["1"]'), got True"""),
        ("[01, 02]", "expected a string (quote what YAML"),
        ("[-1, 0, 1]", "expected a string (quote what YAML"),
        ("Yes", """expected a list, such as '["a", "b"]', got Yes"""),
    ],
)
def test_labels_that_yaml_reads_as_others(own, capsys, given, says):
    assert run("fit", "--config", "tiny.yaml", "--data.labels", given) == 2
    assert says in capsys.readouterr().err


def test_python_keeps_the_names_and_refuses_others(own):
    files = {"tokenizer": str(own / "tokenizer"), "max_length": 32, "test_file": "test.csv"}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    module = mebert.MultiExitModule.load_from_checkpoint(BEST)
    fresh = mebert.MultiExitModule(num_labels=3, encoder_config=module.hparams["encoder_config"])
    assert module.model.label_names == NAMES
    swapped = mebert.TextDataModule(labels=NAMES[::-1], **files)
    for trained, checkpoint in ((module, None), (fresh, BEST)):
        with pytest.raises(UserError, match=r"data\.labels: this model was trained for bad, fair, good, in this order"):
            L.Trainer(**quiet).test(trained, swapped, ckpt_path=checkpoint, weights_only=True)
    L.Trainer(**quiet).test(module, mebert.TextDataModule(labels=NAMES, **files))
    assert module.model.label_names == NAMES


def test_runs_of_other_labels_are_not_compared(own, capsys):
    shutil.copytree("runs/tiny/version_0", "runs/tiny/version_1")
    outputs = own / "runs/tiny/version_1/outputs.safetensors"
    record, about = load_record(outputs)
    save_record(record, outputs, about | {"label_names": NAMES[::-1]})
    assert main(["compare", "runs/tiny/version_0", "runs/tiny/version_1"]) == 2
    assert "for other labels, or in another order (bad, fair, good; good, fair, bad)" in capsys.readouterr().err
