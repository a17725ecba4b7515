"""Every command in README and docs is accepted by the real parser; the classes shown in them train."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from runs import experiment, newest, run, write_config

from mebert.cli.main import main

pytestmark = pytest.mark.slow  # a hundred commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^\s*(python -m mebert .*)$|`(python -m mebert [^`]*)`", text, flags=re.MULTILINE)
    return [re.sub(r"\s+(#|> ).*", "", a or b).strip() for a, b in found]


def modules_shown() -> dict[str, str]:
    """The Python files that the pages show in full, by name."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name, block in re.findall(r"    # (my_\w+\.py)\n((?:    .*\n|\n)*)", text):
            lines = [line[4:] for line in block.splitlines()]
            found[name] = "\n".join(line for line in lines if not line.startswith("python -m"))
    return found


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in modules_shown().items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("command", sorted({command for page in PAGES for command in commands(page)}))
def test_command_parses(command, working_folder, monkeypatch, capsys):
    monkeypatch.setattr("mebert.cli.fit_file._encoder_fit", lambda *_: (384, 64, 99.0))
    (working_folder / "reviews.csv").write_text("text,label\ngood,1\nbad,0\n", encoding="utf-8")
    (working_folder / "configs").symlink_to(ROOT / "configs")
    for name in ("train.csv", "dev.csv", "test.csv", "texts.csv"):
        (working_folder / name).write_text("premise,hypothesis,label\na,b,yes\nc,d,no\n", encoding="utf-8")
    arguments = shlex.split(command)[3:]
    if ".help" not in command and "--help" not in command:
        # Any experiment's configuration replaces the config.yaml of a finished run.
        arguments = [re.sub(r"runs/\w+/version_0/config.yaml", "configs/quickstart.yaml", a) for a in arguments]
        assert all(Path(a).exists() for a in arguments if a.startswith("configs/"))
        arguments.append("--print_config")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code in (0, None), capsys.readouterr().err


def test_classes_shown_train(working_folder):
    assert {"my_recipes.py", "my_curriculum.py"} <= set(modules_shown())  # the others: test_extending.py
    settings = experiment()
    settings["model"]["class_path"] = "my_recipes.LastExitTwice"
    settings["model"]["init_args"].pop("prototype_dim")
    settings["data"]["class_path"] = "mebert.SyntheticCurriculumDataModule"
    settings["data"]["init_args"] |= {
        "difficulty": {"class_path": "my_curriculum.LastExitDoubt"},
        "pacing": {"class_path": "my_curriculum.Quadratic", "init_args": {"until": 0.9}},
    }
    write_config(working_folder, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    assert (newest(working_folder) / "evaluation.json").exists()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    targets = set(re.findall(r"(?:`|^ +)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert {"quickstart", "test"} <= targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []
