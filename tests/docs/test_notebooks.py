"""The notebooks as they are stored, their commands and classes; `make test-notebooks` runs them top to bottom."""

from __future__ import annotations

import ast
import json
import math
import re
import shlex
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import torch

from mebert.cli.main import main
from mebert.models import ExitOutputs

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PLAIN = (
    *(ast.Constant, ast.JoinedStr, ast.FormattedValue, ast.Dict, ast.List, ast.Tuple, ast.ListComp),
    *(ast.comprehension, ast.Name, ast.Load, ast.Store),
)

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def files_written(path: Path) -> dict[str, str]:
    """What the cells with %%writefile write, by name."""
    found = [cell.partition("\n") for cell in code_cells(path) if cell.startswith("%%writefile ")]
    return {first.removeprefix("%%writefile ").strip(): text + "\n" for first, _, text in found}


def statements(path: Path) -> list[ast.stmt]:
    return [node for cell in code_cells(path) if not cell.startswith("%%") for node in ast.parse(cell).body]


def commands(path: Path) -> list[str]:
    """What the notebook gives to its function `mebert`, with the names in it filled in."""
    found: list[str] = []
    names = {"mebert": lambda command, show=False: found.append(command), "Path": Path, "print": lambda *_: None}
    for node in statements(path):
        calls = any(isinstance(n, ast.Call) and getattr(n.func, "id", "") == "mebert" for n in ast.walk(node))
        if isinstance(node, ast.FunctionDef):
            continue
        if calls or (isinstance(node, ast.Assign) and is_plain(node.value)):
            exec(compile(ast.Module([node], []), path.name, "exec"), names)
    return found


def is_plain(value: ast.expr) -> bool:
    """Constants, and strings and lists made of them; or a path."""
    if isinstance(value, ast.Call):
        return getattr(value.func, "id", "") == "Path" and all(is_plain(part) for part in value.args)
    return all(isinstance(node, PLAIN) for node in ast.walk(value))


def test_there_are_four():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]


@each
def test_stored_without_outputs_and_with_little_metadata(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(nbformat.from_dict(notebook))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@each
def test_tells_what_it_is_how_long_it_takes_and_what_comes_next(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first, last = ("".join(cells[place]["source"]) for place in (0, -1))
    assert cells[0]["cell_type"] == cells[-1]["cell_type"] == "markdown"
    assert re.match(r"# \S", first)
    assert re.search(r"^\*About \w+ minutes? on a CPU.*nothing is downloaded", first, flags=re.MULTILINE)
    assert "## Next" in last
    between = [a["cell_type"] == b["cell_type"] == "code" for a, b in pairwise(cells)]
    assert sum(between) <= len(cells) // 4  # a story, not a script


@each
def test_has_no_path_of_a_machine_and_fetches_nothing(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])(/(home|root|work|tmp|usr|mnt|Users|opt|var)/|[A-Z]:\\\\)", text)
    for cell in code_cells(path):
        assert "://" not in cell
        assert not re.search(r"^\s*[!%](?!%writefile )", cell, flags=re.MULTILINE)  # no shell


@each
def test_commands_are_understood(path, tmp_path, monkeypatch, capsys):
    """The real parser takes them; `--print_config` stops before anything runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in files_written(path).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    given = commands(path)
    assert given
    for command in given:
        # The configuration of the experiment stands for the one that its run would have written.
        arguments = [re.sub(r"runs/\w+/version_0/config.yaml", "experiment.yaml", a) for a in shlex.split(command)]
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--print_config"])
        assert stop.value.code in (0, None), f"{command}\n{capsys.readouterr().err}"


@pytest.fixture
def my_parts(tmp_path, monkeypatch):
    """The file that 03_extend.ipynb writes, imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = next(path for path in NOTEBOOKS if path.stem == "03_extend")
    (tmp_path / "my_parts.py").write_text(files_written(path)["my_parts.py"], encoding="utf-8")
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


def test_own_rule_and_measure_are_what_the_notebook_says(my_parts):
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
        answers = logits[:, row].argmax(-1).tolist()
        assert changes[row].item() == pytest.approx(sum(a != b for a, b in pairwise(answers)) / 3)
