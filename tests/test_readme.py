"""Every command in README and docs names options, configs and files that exist; the README's class trains."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mebert.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^\s*(python -m mebert .*)$|`(python -m mebert [^`]*)`", text, flags=re.MULTILINE)
    return [re.sub(r"\s+#.*", "", a or b).strip() for a, b in found]


CASES = sorted({command for page in PAGES for command in commands(page)})


def test_there_are_commands():
    assert len(CASES) >= 12


@pytest.mark.parametrize("command", CASES)
def test_command_parses(command, tmp_path, monkeypatch, capsys):
    """The real parser takes it; `--print_config` stops before anything is trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_recipes.py").write_text(readme_class(), encoding="utf-8")
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


def readme_class() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"    # my_recipes\.py\n((?:    .*\n|\n)*)", text)
    assert block is not None
    lines = [line[4:] for line in block[1].splitlines()]
    return "\n".join(line for line in lines if not line.startswith("python -m"))


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
