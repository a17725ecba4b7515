"""The measurement from end to end: open, prepare, time in turn, print, write.

Shapes: N samples.
"""

from __future__ import annotations

import math
import shlex
import time
from pathlib import Path

import torch

from mebert.commands.bench.arithmetic import Costs
from mebert.commands.bench.bench_model import BenchModel, open_subject
from mebert.commands.bench.breakdown import RUNS, Shares, shares_of
from mebert.commands.bench.operating import OperatingPoint, rebound, simulated_points, trained_points
from mebert.commands.bench.output import (
    describe,
    explain_columns,
    folder_name,
    print_breakdown,
    print_rows,
    save_bars,
    write_files,
)
from mebert.commands.bench.results import Row, results, verdict
from mebert.commands.bench.settings import BenchSettings, pick_precisions
from mebert.commands.bench.texts import file_texts, random_texts, task_texts
from mebert.commands.bench.timing import estimate_seconds, run_pass, time_in_turn, timed_pass
from mebert.commands.bench.variants import Contenders, Variant
from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError
from mebert.inference import PrecisionName, prepare_model
from mebert.models import MultiExitModel
from mebert.report.tables import print_pairs
from mebert.runtime.precision import pick_device
from mebert.runtime.progress import Progress

__all__ = ["run_bench"]

DEFAULT_TOKENIZER = "google-bert/bert-base-uncased"
FEWEST_SAMPLES, FEWEST_BATCHES = 64, 8


def run_bench(settings: BenchSettings) -> list[Row]:
    """Measure, print, write; returns the rows.

    Raises:
        UserError: A setting that cannot work.
    """
    device = pick_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    precisions = pick_precisions(settings.precisions, device)
    subject = open_subject(
        settings.model,
        settings.size,
        settings.encoder_config,
        settings.policies,
        settings.num_labels,
        settings.pooling,
        settings.head,
        settings.seed,
    )
    rows = _rows(settings, subject)
    subject.model.to(device)
    models = {p: prepare_model(subject.model, p, settings.compile, device) for p in precisions}
    points, notes = _points(settings, subject, rows, models)
    about = describe(settings, subject, rows, device, precisions, notes)
    print_pairs("Measured:", {name: value for name, value in about.items() if value not in ("", None)})

    maker = Contenders(subject.model, rows, points, models, device, settings.compile, settings.max_length)
    sizes = {size: min(len(rows), max(FEWEST_SAMPLES, FEWEST_BATCHES * size)) for size in settings.batch_sizes}
    variants = {b: maker.of(b, n, settings.baselines, settings.engines) for b, n in sizes.items()}
    found, shares = _measure(settings, variants, points, models, device)

    line = verdict(found)
    print_rows(found, explain_columns(subject))
    if shares:
        print_breakdown(shares)
    print(line)
    folder = settings.out or Path("bench") / folder_name(subject.name)
    write_files(folder, about, found, shares, line)
    title = f"{subject.name}: samples per second, {about['device']}"
    save_bars(found, folder / "bench.png", title)
    print(f"Saved: {folder / 'bench.json'}, {folder / 'bench.csv'}, {folder / 'bench.png'}")
    print_pairs("Next:", _next(settings, subject, found))
    return found


def _next(settings: BenchSettings, subject: BenchModel, found: list[Row]) -> dict[str, str]:
    """What to type after a measurement: take the largest speed that was reached, or train such a model."""
    if settings.model is None or not subject.trained:
        return {"train one": "python -m mebert fit --config configs/quickstart.yaml"}
    speed = max(row.target for row in found if row.policy and row.target is not None)
    words = ["--model", settings.model]
    if settings.texts is not None and not settings.texts.endswith(".txt"):  # lines of text have no labels
        words += ["--file", settings.texts]
        words += ["--text_column", settings.text_column] if settings.text_column != "text" else []
        words += ["--text_pair_column", settings.text_pair_column] if settings.text_pair_column else []
    return {"choose this speed": f"python -m mebert calibrate {shlex.join(words)} --speedup_flops {speed:g}"}


def _measure(
    settings: BenchSettings,
    variants: dict[int, list[Variant]],
    points: dict[PrecisionName, list[OperatingPoint]],
    models: dict[PrecisionName, MultiExitModel],
    device: torch.device,
) -> tuple[list[Row], list[Shares]]:
    every = [c for group in variants.values() for c in group]
    passes = settings.rounds * (1 if device.type == "cpu" else 2)
    with Progress("warming up", len(every)) as progress:
        estimate = 0.0
        for c in every:
            if settings.compile or device.type != "cpu":  # every shape is compiled, or its kernels chosen, by itself
                run_pass(c.make(), c.batches, device)
            taken_apart = settings.breakdown and c.name == "shrink"
            estimate += estimate_seconds(c.make(), c.batches, device) * (passes + (RUNS if taken_apart else 0))
            progress.tick()
    minutes, seconds = divmod(math.ceil(estimate), 60)
    print(f"{len(every)} contenders, {settings.rounds} rounds: about {minutes}:{seconds:02d} min", flush=True)
    found: list[Row] = []
    shares: list[Shares] = []
    live = {(p, o.policy, o.target): o.live for p, group in points.items() for o in group}
    start = time.perf_counter()
    with Progress("measuring", len(every) * settings.rounds) as progress:
        for group in variants.values():
            runs = [lambda c=c: timed_pass(c.make, c.batches, device) for c in group]
            timed = time_in_turn(runs, settings.rounds, progress.tick)
            found += results(group, timed)
            if settings.breakdown:
                shares += shares_of(group, models, live, device)
    print(f"measured in {time.perf_counter() - start:.0f} s")
    return found, shares


def _points(
    settings: BenchSettings,
    subject: BenchModel,
    rows: TokenisedSplit,
    models: dict[PrecisionName, MultiExitModel],
) -> tuple[dict[PrecisionName, list[OperatingPoint]], list[str]]:
    costs = Costs(subject.model, torch.from_numpy(rows.lengths))
    if not subject.trained:
        made = {
            precision: simulated_points(model, subject.policies, rows, costs, settings.speedups, settings.seed)
            for precision, model in models.items()
        }
        return made, []
    points, notes = trained_points(
        subject.model, subject.policies, rows, costs, settings.speedups, "predicted" in settings.engines
    )
    if not points:
        raise UserError("speedups: none is reached on these texts; " + "; ".join(notes))
    return {precision: rebound(points, model) for precision, model in models.items()}, notes


def _rows(settings: BenchSettings, subject: BenchModel) -> TokenisedSplit:
    limit = subject.model.adapter.max_length
    if settings.max_length > limit:
        raise UserError(f"max_length is {settings.max_length} tokens, but {subject.name} allows {limit}")
    vocabulary = int(subject.model.adapter.config.vocab_size)
    n, longest, seed = settings.samples, settings.max_length, settings.seed
    if settings.task is None and settings.texts is None:
        return random_texts(settings.lengths, n, longest, vocabulary, seed)
    tokenizer = settings.tokenizer or subject.tokenizer or DEFAULT_TOKENIZER
    if settings.task is not None:
        rows = task_texts(settings.task, settings.split, tokenizer, n, longest, seed)
    else:
        assert settings.texts is not None
        pair = settings.text_pair_column
        rows = file_texts(settings.texts, tokenizer, n, longest, seed, settings.text_column, pair)
    if int(rows.tokens.max()) >= vocabulary:
        raise UserError(
            f"the tokenizer {tokenizer!r} gives token ids that {subject.name} does not have (it has {vocabulary}); "
            "give the model's own by --tokenizer"
        )
    return rows
