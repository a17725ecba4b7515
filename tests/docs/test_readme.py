"""Every command in README and docs names options, configs and files that exist; the README's class trains."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from runs import experiment, newest, run, write_config

from mebert.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^\s*(python -m mebert .*)$|`(python -m mebert [^`]*)`", text, flags=re.MULTILINE)
    return [re.sub(r"\s+(#|> ).*", "", a or b).strip() for a, b in found]


CASES = sorted({command for page in PAGES for command in commands(page)})


def test_there_are_commands():
    assert len(CASES) >= 12


@pytest.mark.parametrize("command", CASES)
def test_command_parses(command, tmp_path, monkeypatch, capsys):
    """The real parser takes it; `--print_config` stops before anything is trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, code in modules_shown().items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("train.csv", "dev.csv", "test.csv", "texts.csv"):
        (tmp_path / name).write_text("premise,hypothesis,label\na,b,yes\nc,d,no\n", encoding="utf-8")
    arguments = shlex.split(command)[3:]
    if ".help" in command or "--help" in command:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
    else:
        # A finished run's config.yaml stands for any experiment's configuration.
        arguments = [re.sub(r"runs/\w+/version_0/config.yaml", "configs/quickstart.yaml", a) for a in arguments]
        assert all(Path(a).exists() for a in arguments if a.startswith("configs/"))
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--print_config"])
    assert stop.value.code in (0, None), capsys.readouterr().err


def modules_shown() -> dict[str, str]:
    """The Python files that the pages show in full, by name."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name, block in re.findall(r"    # (my_\w+\.py)\n((?:    .*\n|\n)*)", text):
            lines = [line[4:] for line in block.splitlines()]
            found[name] = "\n".join(line for line in lines if not line.startswith("python -m"))
    return found


def test_classes_shown_train(tmp_path, monkeypatch):
    shown = modules_shown()
    assert {"my_recipes.py", "my_curriculum.py"} <= set(shown)  # the others: tests/test_extending.py
    monkeypatch.chdir(tmp_path)
    for name, code in shown.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    settings = experiment()
    settings["model"]["class_path"] = "my_recipes.LastExitTwice"
    settings["model"]["init_args"].pop("prototype_dim")
    settings["data"]["class_path"] = "mebert.SyntheticCurriculumDataModule"
    settings["data"]["init_args"] |= {
        "difficulty": {"class_path": "my_curriculum.LastExitDoubt"},
        "pacing": {"class_path": "my_curriculum.Quadratic", "init_args": {"until": 0.9}},
    }
    write_config(tmp_path, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    assert (newest(tmp_path) / "evaluation.json").exists()


def test_files_and_links_exist():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    targets = set(re.findall(r"(?:`|^ +)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert {"quickstart", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_importing_mebert_is_light():
    heavy = ("wandb", "datasets", "matplotlib", "plotly", "torch")
    code = f"import sys, mebert; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
