"""`python -m mebert study` from end to end: real runs in processes of their own."""

import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import yaml
from runs import experiment, read_csv

from mebert.cli.main import main
from mebert.commands.study.run import check_settings
from mebert.commands.study.settings import Study, cells_of
from mebert.metrics.record_files import load_record

ROOT = Path(__file__).resolve().parents[3]


def study_settings(out):
    tiny = experiment("MultiExitModule")
    tiny.pop("experiment")
    return {
        "name": "tiny",
        "out": str(out),
        "base": {**tiny, "curve": {"wall_samples": 0, "points": [1.5, 2.0]}},
        "tasks": {"task": {}},
        "recipes": {
            "joint": {},
            "first_1": {"model": {"encoder_layers": 1}, "trainer": {"max_epochs": 1}},
            "later": {},
        },
        "seeds": [1],
        "targets": [1, 2],
        "keep": "models",
    }


def study(path, *more):
    with redirect_stdout(StringIO()) as printed:
        status = main(["study", "--config", str(path), "--threads", "1", *more])
    return status, printed.getvalue()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A study of three cells: one that was stopped in its second epoch, one to begin, one that is not asked for."""
    folder = tmp_path_factory.mktemp("study")
    settings = study_settings(folder / "out")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    cells = {cell.recipe: cell for cell in cells_of(Study.checked(**settings))}
    assert cells["joint"].prepare() is None
    with redirect_stdout(StringIO()):
        arguments = ["--test_after_fit", "false", "--trainer.max_steps", "8"]  # within the second epoch
        assert main(["fit", "--config", str(cells["joint"].config_file), *arguments]) == 0
    shutil.rmtree(cells["joint"].folder / "version_0" / "model")
    listed = study(path, "--list")
    finished = study(path, "--jobs", "2", "--only", "recipe=joint,first_1")
    assert study(path, "--report_only")[0] == 0
    return path, cells, listed, finished


@pytest.mark.slow
def test_the_list_has_a_command_for_every_run(ran):
    path, _, (status, printed), _ = ran
    assert status == 0
    lines = printed.splitlines()
    assert len(lines) == 3
    assert f"python -m mebert study --config {path.parent}/out/study.yaml --only recipe=joint,task=task,seed=1" in lines


@pytest.mark.slow
def test_every_run_is_told(ran):
    _, cells, _, (status, printed) = ran
    assert status == 0
    for recipe in ("joint", "first_1"):
        metric = cells[recipe].done().evaluation()["exits"][-1]["acc"]
        assert f"task {recipe} seed 1: acc {metric:.4f}" in printed
    assert "[2/2]" in printed
    assert "1 of the study's 3 runs are not done; a report on the others: python -m mebert study" in printed
    assert not (cells["later"].folder / "log.txt").exists()


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stopped(ran):
    _, cells, _, _ = ran
    folder = cells["joint"].folder
    assert json.loads((folder / "done.json").read_text())["run"] == "version_1"
    steps = [row["step"] for row in read_csv(folder / "version_1" / "metrics.csv") if row["train/loss"]]
    assert len(steps) == 4, "8 of the 12 steps had been done"


@pytest.mark.slow
def test_models_stay_and_checkpoints_go(ran):
    _, cells, _, _ = ran
    for recipe in ("joint", "first_1"):
        run = cells[recipe].done().run
        assert (run / "model" / "exits.json").is_file()
        assert not list(cells[recipe].folder.rglob("*.ckpt"))
    assert json.loads((run / "model" / "config.json").read_text())["num_hidden_layers"] == 1
    _, about = load_record(run / "outputs.safetensors")
    assert about["exit_layers"] == [1]


@pytest.mark.slow
def test_the_report_tells_what_is_missing(ran):
    path = ran[0]
    text = (path.parent / "out" / "report.md").read_text(encoding="utf-8")
    assert "2 of 3 runs" in text
    assert "Not done: task later seed 1." in text
    assert "| first_1 | 1 | 3x |" in text
    rows = {(r["recipe"], r["choice"], r["at"]): r for r in read_csv(path.parent / "out" / "task.csv")}
    done = json.loads((path.parent / "out/task/joint/seed_1/version_1/evaluation.json").read_text())
    own = done["policies"][done["policy"]]
    for at in ("1", "2"):
        assert float(rows["joint", "own", f"{at}x"]["mean"]) == pytest.approx(own["at"][at], abs=1e-6)
    assert float(rows["joint", "own", "area"]["mean"]) == pytest.approx(own["area"], abs=1e-6)


@pytest.mark.slow
def test_what_is_done_is_not_run_again(ran, monkeypatch):
    path, _, _, _ = ran
    monkeypatch.setattr("subprocess.Popen", None)
    status, printed = study(path, "--only", "recipe=joint,first_1")
    assert status == 0
    assert "2 of 2 runs are done already" in printed
    assert "1 of the study's 3 runs are not done" in printed
    status, printed = study(path, "--list")
    assert [line.rpartition(" ")[2] for line in printed.splitlines()] == ["recipe=later,task=task,seed=1"]


@pytest.mark.slow
def test_results_of_other_settings_are_not_mixed(ran, capsys):
    path, cells, _, _ = ran
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["base"]["trainer"]["max_epochs"] = 3
    other = path.with_name("other.yaml")
    other.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["study", "--config", str(other)]) == 2
    error = capsys.readouterr().err
    assert "task joint seed 1, trainer.max_epochs: 2, now 3" in error
    assert str(cells["joint"].folder) in error
    settings["recipes"]["joint"] = {"trainer": {"max_epochs": 2}}
    other.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["study", "--config", str(other), "--only", "recipe=joint,first_1"]) == 0, "the same after merging"


SHIPPED = sorted((ROOT / "configs/study").glob("*.yaml"))


@pytest.mark.parametrize(
    "path",
    [path if path.stem in ("quick",) else pytest.param(path, marks=pytest.mark.slow) for path in SHIPPED],
    ids=lambda path: path.stem,
)
def test_a_shipped_study_is_taken_by_the_parser(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert f"#   python -m mebert study --config configs/study/{path.name}" in text
    assert yaml.safe_load(text)["name"] == path.stem
    assert study(path, "--list")[0] == 0
    content = yaml.safe_load(Path(f"runs/studies/{path.stem}/study.yaml").read_text(encoding="utf-8"))
    check_settings(cells_of(Study.checked(**content)))


@pytest.mark.slow
def test_a_search_from_a_run(in_trained_run):
    """One line, no YAML: the run's settings, two learning rates, and the better one by validation data."""
    with redirect_stdout(StringIO()) as printed:
        grid = '{"model.learning_rate": [1.0e-9, 1.0e-2]}'
        words = ["--run", "runs/tiny/version_0", "--grid", grid, "--threads", "1", "--jobs", "2"]
        assert main(["study", *words]) == 0
    out = Path("runs/studies/tiny_search")
    report = (out / "report.md").read_text(encoding="utf-8")
    table = report[report.index("| recipe | val/auc |") :].splitlines()[2:4]
    values = [float(line.split("|")[2]) for line in table]
    assert values[0] >= values[1]
    best = table[0].split("|")[1].strip()
    assert f"own: best by val/auc: {best} (" in printed.getvalue()
    folder = out / "own" / best / "seed_1/version_0"
    assert str(folder) in printed.getvalue()
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["model"]["init_args"]["learning_rate"] == float(best.removeprefix("learning_rate-"))
    assert config["data"]["init_args"]["train_samples"] == 96
    assert main(["study", "--run", "no/run"]) == 2


def test_a_file_of_the_users_own_stays(tmp_path, capsys):
    own, text = tmp_path / "study.yaml", "# mine\n" + yaml.safe_dump(study_settings(tmp_path))
    own.write_text(text)
    assert study(own, "--list")[0] == 2
    assert f"out: {own} is a file of your own" in capsys.readouterr().err
    assert own.read_text() == text
    other = own.rename(tmp_path / "mine.yaml")
    assert [study(path, "--list", "--seeds", "[2]")[0] for path in (other, other, own)] == [0, 0, 0], (
        "it is a study's now"
    )
