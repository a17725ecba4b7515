"""The notebooks as they are stored, and the classes that one of them writes; `make test-notebooks` runs them."""

import json
import math
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import torch

from mebert.models import ExitOutputs

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form(path):
    """No outputs and no metadata; what it is, how long it takes, what comes next; no machine's path, no download."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    nbformat.validate(nbformat.from_dict(notebook))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    cells = notebook["cells"]
    for cell in cells:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            code = "".join(cell["source"])
            assert "://" not in code
            assert not re.search(r"^\s*[!%](?!%writefile )", code, flags=re.MULTILINE)  # no shell
    assert cells[0]["cell_type"] == cells[-1]["cell_type"] == "markdown"
    first, last = ("".join(cells[place]["source"]) for place in (0, -1))
    assert re.match(r"# \S", first)
    assert re.search(r"^\*About \w+ minutes? on a CPU.*nothing is downloaded", first, flags=re.MULTILINE)
    assert "## Next" in last
    assert not re.search(r"(?<![\w.])(/(home|root|work|tmp|usr|mnt|Users|opt|var)/|[A-Z]:\\\\)", text)


@pytest.fixture
def my_parts(tmp_path, monkeypatch):
    """The file that 03_extend.ipynb writes, imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = next(path for path in NOTEBOOKS if path.stem == "03_extend")
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    code = next(cell for cell in cells if cell.startswith("%%writefile my_parts.py\n"))
    (tmp_path / "my_parts.py").write_text(code.partition("\n")[2] + "\n", encoding="utf-8")
    return import_module("my_parts")


def test_own_recipe_is_what_the_notebook_says(my_parts):
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    module = my_parts.FocusOnTheRest(focus=0.8, encoder_config={"model_type": "bert", "vocab_size": 10, **sizes})
    logits, labels = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0])
    parts = module.compute_loss(ExitOutputs(logits, torch.zeros(3, 4, 4)), {"labels": labels})
    total, doubts = 0.0, []
    for row, label in enumerate(labels.tolist()):
        doubt = 1.0
        for e in range(3):
            weights = [math.exp(value) for value in logits[e, row].tolist()]
            p = weights[label] / sum(weights)
            total += 1 / 3 * (0.2 + 0.8 * doubt) * -math.log(p) / 4
            doubt = 1 - p
            doubts += [doubt] if e < 2 else []
    assert parts["loss"].item() == pytest.approx(total, rel=1e-5)
    assert parts["doubt"].item() == pytest.approx(sum(doubts) / len(doubts), rel=1e-5)


def test_own_policy_and_measure_are_what_the_notebook_says(my_parts):
    logits = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(1)) * 3
    scores = my_parts.SmoothedEntropy(memory=0.3).score_exits(logits, torch.zeros(4, 5, 2))
    changes = my_parts.ChangesOfMind().of_logits(logits, torch.zeros(5, dtype=torch.long))
    for row in range(5):
        mean = None
        for e in range(4):
            weights = [math.exp(value) for value in logits[e, row].tolist()]
            entropy = -sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights) / math.log(3)
            mean = entropy if mean is None else 0.3 * mean + 0.7 * entropy
            assert scores[e, row].item() == pytest.approx(mean, abs=1e-5)
        labels = logits[:, row].argmax(-1).tolist()
        assert changes[row].item() == pytest.approx(sum(a != b for a, b in pairwise(labels)) / 3)
