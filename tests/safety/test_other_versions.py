"""Model folders of a newer mebert, or with keys that this one does not know; classes and encoders that do not fit."""

import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from tiny import tiny_config

import mebert
from mebert.cli.main import main
from mebert.errors import UserError
from mebert.models import build_encoder
from mebert.storage.model_spec import ModelSpec

RUN = "runs/tiny/version_0"


def change(**values):
    path = Path(f"{RUN}/model/exits.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_newer_format_is_refused(in_trained_run):
    change(format=2, mebert_version="7.1.0")
    says = (
        rf"model/exits.json has format 2, written by mebert '7\.1\.0'; this is mebert {mebert.__version__}, .*format 1"
    )
    with pytest.raises(UserError, match=says):
        mebert.EarlyExitClassifier.from_pretrained(RUN)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mebert_version": "7.1.0"}, f"was written by mebert 7.1.0, this is {mebert.__version__}; answers may differ"),
        ({"mebert_version": "7.1.0", "sparse": 1}, "its 'sparse' is not read"),
        ({"max_lenght": 9}, "its 'max_lenght' is not read"),
        ({}, None),
        ({"mebert_version": "0.0.9"}, None),
    ],
    ids=str,
)
def test_one_warning_names_both_versions(values, says, in_trained_run):
    change(**values)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mebert.EarlyExitClassifier.from_pretrained(RUN)("a dog")
    found = [str(w.message) for w in caught if "exits.json" in str(w.message)]
    assert len(found) == (says is not None)
    assert says is None or says in found[0]
    with ModelSpec.change(f"{RUN}/model"):
        pass
    assert ModelSpec.read(f"{RUN}/model").model_dump().keys() >= values.keys(), "what is not known stays"


def test_a_run_of_data_of_a_class_of_ones_own(in_trained_run, capsys):
    """No option of `calibrate` imports a class: the rows can be given in another way."""
    config = Path(f"{RUN}/config.yaml")
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(content | {"data": {"class_path": "mine.Data"}}))
    assert main(["calibrate", RUN, "--speedup", "1.5"]) == 2
    told = capsys.readouterr().err
    assert "'mine.Data', which is not imported" in told
    assert "give the rows by --file or --task" in told


def test_a_cascade_of_a_run_with_a_damaged_configuration(in_trained_run, capsys):
    for text in ("data: [1\n", "- 1\n", "data: 3\n"):
        Path(f"{RUN}/config.yaml").write_text(text)
        assert main(["cascade", "--models", RUN, RUN, "--out", "joined"]) == 2
        assert f"{RUN}/config.yaml is no configuration of a run" in capsys.readouterr().err
        assert not Path("joined/model/exits.json").exists()


def test_a_pair_for_an_encoder_of_one_segment():
    model = mebert.MultiExitModel(build_encoder("unused", tiny_config("bert") | {"type_vocab_size": 1}), num_labels=2)
    ids = torch.ones(1, 4, dtype=torch.long)
    assert model(ids, ids, torch.zeros_like(ids)).logits.isfinite().all()
    with pytest.raises(UserError, match=r"of a pair apart \(type_vocab_size 1\): give one text"):
        model(ids, ids, torch.tensor([[0, 0, 1, 1]]))
