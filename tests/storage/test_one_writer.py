"""One rule for all writers: a folder is claimed by making it, a file is replaced whole, one command writes a table."""

import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from records import random_record
from runs import read_csv, run, write_rows
from tiny import tiny_model

from mebert.callbacks import PredictionWriter
from mebert.cli.main import main
from mebert.data import TextDataModule
from mebert.errors import UserError
from mebert.exit_predictor import save_predictors
from mebert.exit_predictor.linear import LinearExitPredictor
from mebert.metrics.record_files import save_record
from mebert.policies import Entropy, PatientEntropy
from mebert.policies.stored_thresholds import store_thresholds
from mebert.report import plots, prediction_shards
from mebert.report.glue_files import write_glue_files
from mebert.report.page import write_page
from mebert.report.prediction_files import write_table
from mebert.runtime.slurm import note_job
from mebert.storage import atomic, run_folder
from mebert.storage.atomic import atomic_path, atomic_write, copy_whole, write_text
from mebert.storage.model_folder import SPEC_FILE
from mebert.storage.model_spec import ModelSpec

MASK = os.umask(0)
os.umask(MASK)


def mebert_command(*words):
    return run(*words) if words[0] in ("fit", "test", "predict") else main([*words])


def together(*commands):
    """Run command lines at the same moment, each in a process of its own; returns [(status, its output)]."""
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(len(commands))

    def one(number, words):
        path = Path(f"said-{number}.txt")
        with path.open("w") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            start.wait()
            status = mebert_command(*words)
        os._exit(status)

    processes = [fork.Process(target=one, args=(n, words)) for n, words in enumerate(commands)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [(p.exitcode, Path(f"said-{n}.txt").read_text()) for n, p in enumerate(processes)]


# ---- files are replaced whole ----------------------------------------------------------------------------------------


def cli(*words, to):
    def write(folder, number):
        assert main([*words, "--out", str(folder / to)]) == 0

    return write


def a_figure(folder, number):
    plots.save_figure(Figure(figsize=(1 + number, 1)), folder / "x.png")


def a_model(folder, number):
    tiny_model(num_labels=2 + number).save_pretrained(folder, policy=Entropy(0.1 * number))


WRITERS = {
    "text": lambda folder, n: write_text(f"{n}", folder / "x.txt"),
    "csv": lambda folder, n: atomic.write_rows([[n]], folder / "x.csv"),
    "torch": lambda folder, n: atomic_write(torch.zeros(n), folder / "x.ckpt"),
    "record": lambda folder, n: save_record(random_record(seed=n), folder / "x.safetensors", {}),
    "picture": a_figure,
    "page": lambda folder, n: write_page(folder / "x.html", f"title {n}", "", []),
    "slurm": lambda folder, n: note_job(folder, [f"{n}"]),
    "glue": lambda folder, n: write_glue_files(folder, "rte", {"test": 1}, [n % 2]),
    "model": a_model,
    "predictor": lambda folder, n: save_predictors(folder, [LinearExitPredictor(2 + n, 8)]),
    **{
        f"table {end}": lambda folder, n, end=end: write_table(folder / f"x.{end}", [{"a": [n]}])
        for end in ("csv", "jsonl", "parquet")
    },
    **{
        f"compare {end}": cli("compare", "runs/tiny/version_0", to=f"x.{end}")
        for end in ("txt", "md", "csv", "html", "png")
    },
    **{
        f"inspect {end}": cli("inspect", "--model", "runs/tiny/version_0", "--text", "anna can swim", to=f"x.{end}")
        for end in ("json", "html", "png")
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_the_old_file_stays_whole_for_who_reads_it(in_trained_run, monkeypatch, name):
    """A second name of every file is what a reader that has opened it, or mapped it, still sees."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    folder, old = Path("out"), Path("old")
    folder.mkdir()
    WRITERS[name](folder, 1)
    old.mkdir()
    files = [path for path in folder.iterdir() if path.suffix != ".lock"]
    assert files
    before = {path.name: path.read_bytes() for path in files}
    for path in files:
        os.link(path, old / path.name)
    WRITERS[name](folder, 2)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    for path in files:
        assert not path.samefile(old / path.name), f"{path.name} was not written anew"
    assert not list(folder.rglob("*.unfinished*"))


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    write_text("through", tmp_path / "pipe")
    assert os.read(end, 100) == b"through"
    os.close(end)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_files_of_a_library_take_their_places_together_or_not_at_all(tmp_path):
    copy_whole(Path(__file__), tmp_path / "a")
    with contextlib.suppress(RuntimeError), atomic.atomic_files(tmp_path) as unfinished:
        (unfinished / "a").write_text("new")
        raise RuntimeError
    assert (tmp_path / "a").read_bytes() == Path(__file__).read_bytes()
    with atomic.atomic_files(tmp_path) as unfinished:
        (unfinished / "b").mkdir()
        (unfinished / "b" / "c").write_text("new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "c"]


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path):
    """Threads have one process id: a temporary name must be the writer's, not the process's."""
    texts, path, seen = [f"{n}" * 50_000 for n in range(8)], tmp_path / "x", set()

    def write(text):
        for _ in range(10):
            with atomic_path(path) as unfinished, unfinished.open("w") as file:
                for start in range(0, len(text), 10_000):
                    file.write(text[start : start + 10_000])

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(write, text) for text in texts]
        while not all(job.done() for job in jobs):
            with contextlib.suppress(FileNotFoundError):
                seen.add(path.read_text())
        for job in jobs:
            job.result()
    assert seen <= set(texts)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


# ---- a run's folder --------------------------------------------------------------------------------------------------


def test_folders_are_claimed_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: run_folder.claim_version(tmp_path / "runs").name, range(40)))
    assert sorted(made) == sorted(f"version_{n}" for n in range(40))


def test_loggers_of_one_run_share_its_number_and_an_empty_folder_goes(tmp_path):
    def trainer():
        loggers = [CSVLogger(tmp_path, name) for name in ("a", "a", "b")]
        return Trainer(logger=loggers, accelerator="cpu", enable_model_summary=False)

    one, two = trainer(), trainer()
    with run_folder.claimed_run(one, tmp_path / "runs"), run_folder.claimed_run(two, tmp_path / "runs"):
        assert [logger.version for logger in one.loggers] == [0, 0, 0]
        assert [logger.version for logger in two.loggers] == [1, 1, 1]
        (run_folder.run_folder(one) / "kept").touch()
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("*/*")) == ["a/version_0"]


@pytest.mark.parametrize(
    "more", [[], pytest.param(["--trainer.logger", "false"], marks=pytest.mark.slow)], ids=["csv", "no logger"]
)
def test_fits_that_start_together_have_folders_of_their_own(in_trained_run, more):
    shutil.rmtree("runs")
    before = {path.name for path in Path().iterdir()}
    fit = ["fit", "--config", "tiny.yaml", "--trainer.max_epochs", "1", *more]
    ended = together(fit, [*fit, "--seed_everything", "7"])
    assert [status for status, _ in ended] == [0, 0], ended
    runs = [Path("runs/tiny/version_0"), Path("runs/tiny/version_1")]
    assert sorted(Path("runs/tiny").iterdir()) == runs
    for folder in runs:
        there = {path.name for path in folder.iterdir()}
        assert {"config.yaml", "evaluation.json", "model", "checkpoints"} <= there
    seeds = {yaml.safe_load((f / "config.yaml").read_text())["seed_everything"] for f in runs}
    assert len(seeds) == 2
    assert {path.name for path in Path().iterdir()} - before == {"runs", "said-0.txt", "said-1.txt"}
    if more:
        checkpoint = runs[1] / "checkpoints/best.ckpt"
        content = checkpoint.read_bytes()
        assert run("test", "--config", "tiny.yaml", "--ckpt_path", "best", *more) == 0, "found without a logger, too"
        assert checkpoint.read_bytes() == content
        assert json.loads((Path("runs/tiny/version_2") / "evaluation.json").read_text())["checkpoint"] == str(
            checkpoint
        )


def test_a_version_that_is_taken(in_trained_run, capsys):
    fit = ["fit", "--config", "tiny.yaml", "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "runs"]
    fit += ["--trainer.logger.name", "tiny", "--trainer.logger.version", "0"]
    before = Path("runs/tiny/version_0/checkpoints/best.ckpt").read_bytes()
    assert run(*fit) == 2
    assert "runs/tiny/version_0 holds a run already, which a new training would overwrite" in capsys.readouterr().err
    assert Path("runs/tiny/version_0/checkpoints/best.ckpt").read_bytes() == before


def test_of_two_cascades_one_has_the_folder(in_trained_run):
    shutil.copytree("runs/tiny/version_0", "runs/tiny/version_1")
    words = ["cascade", "--models", '["runs/tiny/version_0","runs/tiny/version_1"]', "--out", "runs/both"]
    ended = together(words, words)
    assert sorted(status for status, _ in ended) == [0, 2], ended
    assert ModelSpec.read("runs/both/model").exit_layers


# ---- exits.json ------------------------------------------------------------------------------------------------------


def test_calibrations_at_the_same_time_are_all_stored(tmp_path):
    """Sixteen threads, each with a threshold of its own; whoever reads meanwhile finds a whole file."""
    tiny_model().save_pretrained(tmp_path, policy=Entropy(0.4))

    def store(number):
        store_thresholds(tmp_path, {"operating_points": {"entropy": {1.0 + number: 0.5}}})

    with ThreadPoolExecutor(16) as pool:
        jobs = [pool.submit(store, number) for number in range(48)]
        while not all(job.done() for job in jobs):
            ModelSpec.read(tmp_path)
        for job in jobs:
            job.result()
    assert [*ModelSpec.read(tmp_path).operating_points["entropy"]] == [1.0 + number for number in range(48)]
    assert not [path.name for path in tmp_path.iterdir() if path.suffix == ".lock"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~MASK}, "weights, too"


def test_thresholds_of_a_policy_that_was_replaced_meanwhile_are_not_stored(tmp_path):
    own = PatientEntropy(0.4, patience=3)
    tiny_model().save_pretrained(tmp_path, policy=own)
    other = PatientEntropy(0.2, patience=1)
    store_thresholds(tmp_path, {"max_drops": {"pcee": {0.01: 0.2}}}, [other], use=other)
    before = (tmp_path / SPEC_FILE).read_bytes()
    with pytest.raises(UserError, match="another pcee meanwhile"):
        store_thresholds(tmp_path, {"max_drops": {"pcee": {0.01: 0.9}}}, [own])
    assert (tmp_path / SPEC_FILE).read_bytes() == before


def test_calibrate_commands_together(in_trained_run):
    words = ["calibrate", "--model", "runs/tiny/version_0", "--split", "val"]
    ended = together([*words, "--speedup", "1.3"], [*words, "--max_drop", "0.5"])
    assert [status for status, _ in ended] == [0, 0], ended
    spec = ModelSpec.read("runs/tiny/version_0/model")
    name = spec.policy and next(iter(spec.max_drops))
    assert 0.5 in spec.max_drops[name]
    assert 1.3 in spec.operating_points[name]


# ---- tables of predictions -------------------------------------------------------------------------------------------

ROWS = {
    "a": [{"hypothesis": f"anna can swim {n}", "premise": "anna can swim"} for n in range(300)],
    "b": [{"hypothesis": f"ben cannot run {n}", "premise": "somebody will sing"} for n in range(300)],
}


def predict(rows, out, *more):
    given = ["predict", "--config", "tiny.yaml", "--ckpt_path", "best", "--data.predict_file", rows, "--out", out]
    return [*given, "--data.streaming", "true", *more]


@pytest.mark.slow
def test_two_predicts_with_one_table(in_trained_run, capsys):
    for name, rows in ROWS.items():
        write_rows(Path(f"{name}.csv"), rows)
        assert run(*predict(f"{name}.csv", f"{name}-alone.csv")) == 0
    ended = together(predict("a.csv", "out.csv"), predict("b.csv", "out.csv"))
    assert {status for status, _ in ended} <= {0, 2}
    done = [name for name, (status, _) in zip(ROWS, ended, strict=True) if status == 0]
    assert done
    for status, said in ended:
        assert status == 0 or "out.csv is being written by another predict: give another --out" in said
    assert read_csv("out.csv") in [read_csv(f"{name}-alone.csv") for name in done]
    assert not list(Path().glob("*.shards"))
    lock = prediction_shards.claim_shards(Path("out.csv.shards"), Path("out.csv"))
    before = Path("out.csv").read_bytes()
    assert run(*predict("a.csv", "out.csv")) == 2
    assert "out.csv is being written by another predict" in capsys.readouterr().err
    assert Path("out.csv").read_bytes() == before
    prediction_shards.release_shards(lock)
    assert run(*predict("a.csv", "out.csv")) == 0
    assert read_csv("out.csv") == read_csv("a-alone.csv")


CLAIM = """
import sys, time
from pathlib import Path
from mebert.report.prediction_shards import claim_shards
lock = claim_shards(Path(sys.argv[1]), Path(sys.argv[2]))
print("claimed", flush=True)
time.sleep(600)
"""


def test_a_claim_ends_with_its_process(tmp_path):
    names = tmp_path / "x.shards", tmp_path / "x"
    process = subprocess.Popen([sys.executable, "-c", CLAIM, *map(str, names)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "claimed\n"
    with pytest.raises(UserError, match="another predict"):
        prediction_shards.claim_shards(*names)
    process.kill()
    process.communicate()
    prediction_shards.release_shards(prediction_shards.claim_shards(*names))
    assert not names[0].exists()


WAYS = {
    "itself": lambda: "rows.csv",
    "another spelling": lambda: "folder/../rows.csv",
    "absolute": lambda: str(Path("rows.csv").absolute()),
    "a link": lambda: os.symlink("rows.csv", "link.csv") or "link.csv",
    "a link to its folder": lambda: os.symlink(".", "here") or "here/rows.csv",
    "a hard link": lambda: os.link("rows.csv", "hard.csv") or "hard.csv",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["predict_file", "test_file", "train_file"])
def test_a_table_onto_its_own_input(here, tokenizer_folder, way, kind):
    Path("folder").mkdir()
    write_rows(Path("rows.csv"), [{"text": "the cat sat", "label": "no"}, {"text": "a dog ran", "label": "yes"}])
    data = TextDataModule(labels=["no", "yes"], tokenizer=tokenizer_folder, **{kind: "rows.csv"})
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    trainer.datamodule = data
    with pytest.raises(UserError, match=r"predictions\.path .* a file that the command reads; give another file"):
        PredictionWriter(WAYS[way]()).setup(trainer, None, "predict")
    PredictionWriter("other.csv").setup(trainer, None, "predict")


def test_commands_refuse_to_write_onto_what_they_read(in_trained_run, capsys):
    write_rows(Path("rows.csv"), ROWS["a"][:3])
    os.symlink("rows.csv", "link.csv")
    shutil.copy("rows.csv", "copy.csv")
    assert run(*predict("rows.csv", "link.csv")) == 2
    assert "link.csv is the same file as rows.csv, a file that the command reads" in capsys.readouterr().err
    assert Path("rows.csv").read_bytes() == Path("copy.csv").read_bytes()
    run_path, model = Path("runs/tiny/version_0"), Path("runs/tiny/version_0/model")
    before = {path: path.read_bytes() for path in run_path.rglob("*") if path.is_file()}
    for words in (
        ["compare", str(run_path), "--format", "csv", "--out", str(run_path / "evaluation.json")],
        ["inspect", "--model", str(run_path), "--text", "anna", "--out", str(model / "exits.json")],
        ["inspect", "--model", str(model), "--text", "anna", "--out", str(run_path / "evaluation.json")],
    ):
        assert main(words) == 2
        assert "a file that the command reads; give another file for the output" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
