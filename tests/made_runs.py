"""Folders of runs without any training: a random pass over a tiny model, evaluated and written by the real code."""

import csv
from functools import lru_cache
from unittest.mock import patch

import torch
import yaml
from tiny import tiny_model

from mebert.metrics.curve import ExitRecord, threshold_for_speedup
from mebert.metrics.record_files import save_record
from mebert.policies import Entropy
from mebert.report.comparison import best_policy, compare_policies
from mebert.report.evaluation import evaluate
from mebert.report.files import write_evaluation

LAYERS = [1, 2, 3]
TARGETS = (1.2, 1.5)


def made_record(rows, seed, quality=1.0, difficulty=False):
    """Exits that are right more often the later they are; the same labels for every `seed`."""
    gold = torch.randint(0, 3, (rows,), generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, rows, 3, generator=generator)
    logits[:, torch.arange(rows), gold] += quality * torch.tensor([0.5, 1.0, 2.0]).view(-1, 1)
    record = ExitRecord(logits, gold, torch.arange(rows), torch.full((rows,), 9))
    if difficulty:
        record.difficulty = torch.arange(rows) % 3
    record.scores["entropy"] = Entropy().score_record(record)
    return record


def write_settings(folder, seed, recipe="mebert.MultiExitModule", task="rte", **init_args):
    """config.yaml, as a run leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "seed_everything": seed,
        "trainer": {"max_epochs": 2, "logger": {"init_args": {"save_dir": str(folder)}}},
        "model": {"class_path": recipe, "init_args": {"learning_rate": 1e-4, **init_args}},
        "data": {"class_path": "mebert.TextDataModule", "init_args": {"task": task, "max_length": 64}},
        "experiment": folder.name,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def write_metrics(folder, seed=0, curriculum=False):
    """metrics.csv of two epochs: CSVLogger's rows, most of their cells empty."""
    rows = []
    for epoch in range(2):
        rows.append({"epoch": epoch, "step": 10 * epoch + 5, "train/loss": 1.5 - epoch + seed / 100})
        scores = {f"val/exit_{e + 1:02d}/acc": 0.4 + 0.1 * e + 0.05 * epoch for e in range(3)}
        rows.append({"epoch": epoch, "step": 10 * epoch + 9, "val/score": 0.5 + 0.05 * epoch + seed / 100, **scores})
        if curriculum:
            shown = {"curriculum/share": 0.5 * (epoch + 1), "curriculum/difficulty_shown": 0.1 * epoch}
            quantiles = {f"curriculum/difficulty_p{q}": q / 100 for q in (10, 50, 90)}
            rows.append({"epoch": epoch, "step": 10 * epoch + 9, **shown, **quantiles})
    columns = sorted({name for row in rows for name in row})
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_samples(folder, text):
    """curriculum.csv, with somebody's text in it."""
    with (folder / "curriculum.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "which", "difficulty", "index", "label", "text"])
        writer.writerow([0, "easiest", 0.1, 1, "no", "an early text"])
        writer.writerow([1, "easiest", 0.1, 1, "no", "an easy text"])
        writer.writerow([1, "hardest", 0.9, 2, "<b>yes</b>", text])


@lru_cache(maxsize=32)
def tested(seed, quality, rows, difficulty):
    """A record and its evaluation; worked out once for all tests of a process, which must not change them."""
    model = tiny_model()
    record = made_record(rows, seed, quality, difficulty=difficulty)
    validation = made_record(90, seed + 50, quality)
    thresholds = {t: threshold_for_speedup(validation.scores["entropy"], LAYERS, t) for t in TARGETS}
    own = Entropy().with_threshold(thresholds[1.5])
    found = evaluate(model, record, "test", ["acc"], own, {"entropy": own}, {"entropy": thresholds}, TARGETS)
    found.policies = compare_policies(model, record, "acc", (1.0, *TARGETS), own, validation, ["entropy", "margin"])
    found.best_policy = best_policy(found.policies)
    return record, found


def made_run(folder, seed=1, quality=1.0, rows=150, difficulty=False, curriculum=False, **settings):
    """The folder of a tested run; returns its record and its evaluation."""
    write_settings(folder, seed, **settings)
    write_metrics(folder, seed, curriculum)
    record, found = tested(seed, quality, rows, difficulty)
    with patch("mebert.report.files.save_curve"):  # half a second
        write_evaluation(found, folder, "made")
    save_record(record, folder / "outputs.safetensors", {"exit_layers": LAYERS})
    return record, found
