"""Which exceptions are a file's fault, and which stay what they are: mistakes in a program."""

import json

import pytest
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

from mebert.errors import UserError
from mebert.storage.hub import hub_errors
from mebert.storage.json_values import faults_in


def fails(error):
    raise error


@pytest.mark.parametrize("error", [AssertionError("x"), AttributeError("x"), TypeError("x"), NameError("x")], ids=repr)
def test_mistakes_in_a_program_are_not_hidden(error):
    with pytest.raises(type(error), match="x"), hub_errors("model 'x'"):
        fails(error)
    with pytest.raises(TypeError, match="unexpected keyword"), hub_errors("model 'x'"):
        load_file(file="x")
    with pytest.raises(NameError), faults_in("exits.json"):
        fails(NameError("x"))


@pytest.mark.parametrize("values", [{"hidden_act": "warp"}, {"model_type": ["bert"]}, {"id2label": 3}, {"dtype": 7}])
def test_what_libraries_raise_for_a_file_is_told(values, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **values}))
    with pytest.raises(UserError, match=r"^cannot load encoder 'x': "), hub_errors("encoder 'x'"):
        AutoModel.from_config(AutoConfig.from_pretrained(tmp_path, trust_remote_code=False))
