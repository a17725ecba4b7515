"""Every line of docs/training.md works: its commands are run one after the other, on a tiny encoder."""

import re
import shlex
from pathlib import Path

import pytest
from test_readme import ROOT, commands

from mebert.cli.main import main

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "training.md"
TINY = "--trainer.accelerator=cpu --curve.wall_samples=0 --trainer.enable_progress_bar=false --trainer.max_epochs=2"


def test_commands(here, hf_cache, encoder, monkeypatch, capsys):
    """In the order of the page; `--ckpt_path last` has its own tests in tests/resume."""
    words = ["good film", "fine plot", "great cast", "bad film", "awful plot", "poor cast"]
    rows = [f"{words[n % 6]} and the {words[n // 6 % 6]},{'no' if n % 6 > 2 else 'yes'}\n" for n in range(90)]
    Path("reviews.csv").write_text("review,sentiment\n" + "".join(rows), encoding="utf-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ran = 0
    for command in commands(PAGE):
        given = shlex.split(command)[3:]
        if "last" in given or any("configs/" in word for word in given):
            continue
        if given[0] == "fit":
            given += TINY.split()
            given += ["--encoder", encoder] if given[1] == "reviews.csv" else []
            given += ["--model.stage1_epochs=1"] if "--recipe" not in given else []
        elif given[0] == "study":
            given = [re.sub(r"\[16, 32\]", "[16]", word) for word in given] + ["--threads", "1"]
        status = main(given)
        assert status == 0, (command, capsys.readouterr().err)
        ran += 1
    assert ran >= 8
