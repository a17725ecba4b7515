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
TINY_FIT = "--trainer.accelerator=cpu --curve.wall_samples=0 --trainer.enable_progress_bar=false --trainer.max_epochs=2"
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
    (working_folder / "reviews.csv").write_text("review,sentiment\ngood,1\nbad,0\nfine,1\n", encoding="utf-8")
    answers = "question_id,question,answer,label\n1,a b,c d,0\n1,a b,e f,1\n2,a c,d,1\n2,a c,e,0\n"
    (working_folder / "answers.csv").write_text(answers, encoding="utf-8")
    (working_folder / "articles.csv").write_text('text,label\na b c,"x,y"\nb c d,x\nd e f,y\n', encoding="utf-8")
    lines = [f'{{"text": "a b c", "label": {labels}}}\n' for labels in ('["x", "y"]', '["x"]', '["y"]')]
    (working_folder / "articles.jsonl").write_text("".join(lines), encoding="utf-8")
    (working_folder / "configs").symlink_to(ROOT / "configs")
    for name in ("train.csv", "dev.csv", "test.csv", "texts.csv"):
        (working_folder / name).write_text("premise,hypothesis,label\na,b,yes\nc,d,no\n", encoding="utf-8")
    arguments = shlex.split(command)[3:]
    if ".help" not in command and "--help" not in command:
        # Any experiment's configuration replaces the config.yaml of a finished run.
        arguments = [re.sub(r"runs/\w+/version_0/config.yaml", "configs/quickstart.yaml", a) for a in arguments]
        assert all(Path(a).exists() for a in arguments if a.startswith("configs/"))
        arguments.append("--print_config")
        for run_folder in map(Path, re.findall(r"runs/\w+/version_0(?=\s|$)", command)):  # `test RUN` looks into it
            (run_folder / "checkpoints").mkdir(parents=True)
            (run_folder / "checkpoints" / "best.ckpt").touch()
            (run_folder / "config.yaml").write_bytes((ROOT / "configs/quickstart.yaml").read_bytes())
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


def test_every_line_of_the_training_page_runs(hf_cache, encoder, monkeypatch, capsys):
    """One after the other, on a tiny encoder; `--ckpt_path last` has its own tests in tests/resume."""
    words = ["good film", "fine plot", "great cast", "bad film", "awful plot", "poor cast"]
    rows = [f"{words[n % 6]} and the {words[n // 6 % 6]},{'no' if n % 6 > 2 else 'yes'}\n" for n in range(90)]
    Path("reviews.csv").write_text("review,sentiment\n" + "".join(rows), encoding="utf-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ran = 0
    for command in commands(ROOT / "docs" / "training.md"):
        given = shlex.split(command)[3:]
        if "last" in given or any("configs/" in word for word in given):
            continue
        if given[0] == "fit":
            given += TINY_FIT.split()
            given += ["--encoder", encoder] if given[1] == "reviews.csv" else []
        elif given[0] == "study":
            given = [re.sub(r"\[16, 32\]", "[16]", word) for word in given] + ["--threads", "1"]
        status = main(given)
        assert status == 0, (command, capsys.readouterr().err)
        ran += 1
    assert ran >= 8


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    targets = set(re.findall(r"(?:`|^ +)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert {"quickstart", "test"} <= targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []
