"""Every command ends with commands that can be typed as they stand."""

import json
import re
import shlex
from pathlib import Path

import pytest
from runs import QUIET

from mebert.cli.main import main

BENCH = ["--samples", "4", "--rounds", "1", "--batch_sizes", "2", "--breakdown", "false", "--engines", "shrink"]
BENCH += ["--baselines", "unsorted", "--device", "cpu"]
COMMON = ["--config", "tiny.yaml", "--ckpt_path", "best"]


@pytest.fixture
def commands(in_trained_run, capsys):
    """Runs a command and gives the commands that stand after its `Next:`."""

    def of(*args):
        capsys.readouterr()
        assert main(list(args)) == 0
        end = capsys.readouterr().out.rpartition("\nNext:\n")[2]
        found = re.findall(r"python -m mebert (.*)", end)
        assert found, args
        assert len(end.splitlines()) == len(found), "nothing comes after them"
        return found

    return of


def check(found):
    """The parser of each command takes it."""
    for command in found:
        assert "<" not in command, "no blanks to fill in"
        with pytest.raises(SystemExit) as stop:
            main([*shlex.split(command), "--print_config"])
        assert stop.value.code in (0, None), command


def names(found):
    return [command.split()[0] for command in found]


def test_after_fit(commands):
    found = commands("fit", "--config", "tiny.yaml", "--curve.wall_samples", "0", *QUIET)
    assert names(found) == ["predict", "calibrate"]
    predict, calibrate = found
    assert main(shlex.split(calibrate)) == 0
    Path("my.csv").write_text("hypothesis,premise\n the cat , a dog\n", encoding="utf-8")
    assert main(shlex.split(predict)) == 0


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("validate", ["test", "predict"]),
        ("test", ["predict", "calibrate"]),
        ("predict", ["test", "predict"]),
    ],
)
def test_after_a_pass(command, wanted, commands):
    found = commands(command, *COMMON, *QUIET)
    assert names(found) == wanted
    check(found)


@pytest.mark.slow
def test_after_our_own_commands(commands):
    folder = "runs/tiny/version_0"
    found = commands("bench", folder, *BENCH)
    assert found[0] == f"bench {folder} --thorough"
    assert set(names(found[1:])) <= {"calibrate"}
    check(found)
    rows = ["hypothesis,premise,label", "the cat,a dog,entailment", "a dog,the cat,neutral", "a cat,a cat,entailment"]
    Path("own rows.csv").write_text("\n".join(rows), encoding="utf-8")
    columns = ["--text_column", "hypothesis", "--text_pair_column", "premise"]
    own = ["bench", "--model", folder, "--max_length", "64", *BENCH, "--speedups", "1.2"]
    (found,) = commands(*own, "--texts", "own rows.csv", *columns)
    assert found.endswith("--text_column hypothesis --text_pair_column premise --speedup_flops 1.2")
    assert main([*shlex.split(found), "--device", "cpu"]) == 0, found
    Path("lines.txt").write_text("the cat\na dog\n", encoding="utf-8")
    (found,) = commands(*own, "--texts", "lines.txt")
    assert "--file" not in found, "lines have no labels"
    assert names(commands("bench", "--size", "tiny", *BENCH)) == ["fit"]
    found = commands("calibrate", folder, "--max_drop", "0.4", "0.5", "--speedup", "1.2", "1.5", "--device", "cpu")
    assert names(found) == ["predict"]
    check(found)
    stored = json.loads(Path(folder, "model/exits.json").read_text())
    assert {"1.2", "1.5"} <= set(stored["operating_points"]["edr"])
    found = commands("calibrate", "--model", folder, "--max_drop", "0.5", "--device", "cpu", "--save", "false")
    assert names(found) == ["bench"]
    check(found)
    found = commands("compare", folder)
    assert found
    check(found)
