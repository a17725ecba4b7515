"""The measurement from end to end: open, prepare, time in turn, print, write."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from mebert.calibration import ExitCosts
from mebert.commands.bench.bench_model import BenchModel, open_bench_model
from mebert.commands.bench.breakdown import RUNS, Shares, shares_of
from mebert.commands.bench.command import BenchSettings
from mebert.commands.bench.output import DRAWN, EXPLAINED, describe, print_breakdown, print_rows, save_bars, write_files
from mebert.commands.bench.points import OperatingPoint, simulated_points, trained_points
from mebert.commands.bench.results import Row, results, verdict
from mebert.commands.bench.texts import open_texts, random_texts
from mebert.commands.bench.timing import estimate_seconds, run_pass, time_in_turn, timed_pass
from mebert.commands.bench.variants import Variant, make_variants
from mebert.data.tokenised import TokenisedSplit
from mebert.data.tokenizers import DEFAULT_LENGTH, tell_unknown_length
from mebert.errors import UserError
from mebert.inference import PrecisionName, prepare_model, prepare_policy
from mebert.models import MultiExitModel
from mebert.report.layout import print_pairs
from mebert.runtime.precision import pick_device, pick_precision
from mebert.runtime.progress import Progress
from mebert.storage.model_spec import ModelSpec

DEFAULT_TOKENIZER = "google-bert/bert-base-uncased"


def run_bench(settings: BenchSettings) -> list[Row]:
    """Measure, print, write; returns the rows. A UserError for a setting that cannot work."""
    device = pick_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    precisions = pick_precisions(settings.precisions, device)
    measured = open_bench_model(settings)
    longest = _longest(settings, measured)
    settings = replace(settings, max_length=longest)
    rows = _rows(settings, measured, longest)
    measured.model.to(device)
    models = {p: prepare_model(measured.model, p, settings.compile, device) for p in precisions}
    points, notes = _points(settings, measured, rows, models)
    setting = describe(settings, measured, rows, device, precisions, notes)
    if measured.point is not None:
        setting |= {f"the model's {name}": line for name, line in measured.point.as_lines().items()}
    print_pairs("Measured:", {name: value for name, value in setting.items() if value not in ("", None)})

    variants = make_variants(settings, measured.model, rows, points, models)
    found, shares = _measure(settings, variants, models, device)

    line = verdict(found)
    print_rows(found, EXPLAINED + ("" if measured.trained else DRAWN))
    if shares:
        print_breakdown(shares)
    print(line)
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in measured.name).strip("_")
    folder = settings.out or Path("bench") / safe
    write_files(folder, setting, found, shares, line)
    save_bars(found, folder / "bench.png", f"{measured.name}: samples per second, {setting['device']}")
    print(f"Saved: {folder / 'bench.json'}, {folder / 'bench.csv'}, {folder / 'bench.png'}")
    print_pairs("Next:", _next(settings, measured, found))
    return found


def pick_precisions(given: Sequence[PrecisionName] | None, device: torch.device) -> list[PrecisionName]:
    """The precisions to measure; None: float32 and those that this machine multiplies fast."""
    if given is None:
        chosen: list[PrecisionName] = ["float32"]
        if pick_precision(device.type)[0].startswith("bf16"):
            chosen.append("bfloat16")
        return chosen + (["int8"] if device.type == "cpu" else [])
    if not given or len(set(given)) < len(given):
        raise UserError(f"precisions must be one or more different ones, got {list(given)}")
    if "int8" in given and device.type != "cpu":
        raise UserError(f"precision int8 runs on the CPU only, and the device is {device}; leave it out of precisions")
    return list(given)


def _longest(settings: BenchSettings, measured: BenchModel) -> int:
    """Tokens to which texts are cut."""
    limit = measured.model.adapter.max_length
    if settings.max_length is None:
        spec = ModelSpec.read(str(measured.tokenizer)) if measured.trained else None
        found = min(DEFAULT_LENGTH, limit) if spec is None or spec.max_length is None else min(spec.max_length, limit)
        if spec is not None and spec.max_length is None:
            tell_unknown_length(measured.name, found)
        return found
    if settings.max_length > limit:
        raise UserError(f"max_length is {settings.max_length} tokens, but {measured.name} allows {limit}")
    return settings.max_length


def _rows(settings: BenchSettings, measured: BenchModel, longest: int) -> TokenisedSplit:
    vocabulary = int(measured.model.adapter.config.vocab_size)
    if settings.task is None and settings.texts is None:
        return random_texts(settings.lengths, settings.samples, longest, vocabulary, settings.seed)
    tokenizer = settings.tokenizer or measured.tokenizer or DEFAULT_TOKENIZER
    rows = open_texts(settings, tokenizer, longest)
    if int(rows.tokens.max()) >= vocabulary:
        raise UserError(
            f"the tokenizer {tokenizer!r} gives token ids that {measured.name} does not have (it has {vocabulary}); "
            "give the model's own by --tokenizer"
        )
    return rows


def _points(
    settings: BenchSettings, measured: BenchModel, rows: TokenisedSplit, models: Mapping[PrecisionName, MultiExitModel]
) -> tuple[dict[PrecisionName, list[OperatingPoint]], list[str]]:
    """The operating points of each precision, and notes on those that are out of reach."""
    policies, speedups = measured.policies, settings.speedups
    costs = ExitCosts(measured.model, torch.from_numpy(rows.lengths))
    if not measured.trained:
        drawn = {p: simulated_points(m, policies, rows, costs, speedups, settings.seed) for p, m in models.items()}
        return drawn, []
    points, notes = trained_points(measured.model, policies, rows, costs, speedups, "predicted" in settings.engines)
    if not points:
        raise UserError("speedups: none is reached on these texts; " + "; ".join(notes))
    bound = {p: [replace(o, policy=prepare_policy(o.policy, m)) for o in points] for p, m in models.items()}
    return bound, notes


def _measure(
    settings: BenchSettings,
    variants: Mapping[int, list[Variant]],
    models: Mapping[PrecisionName, MultiExitModel],
    device: torch.device,
) -> tuple[list[Row], list[Shares]]:
    every = [variant for group in variants.values() for variant in group]
    passes = settings.rounds * (1 if device.type == "cpu" else 2)
    estimate = 0.0
    with Progress("warming up", len(every)) as progress:
        for v in every:
            if settings.compile or device.type != "cpu":  # compilation and choice of kernels for every shape
                run_pass(v.make(), v.batches, device)
            broken_down = settings.breakdown and v.name == "shrink"
            estimate += estimate_seconds(v.make(), v.batches, device) * (passes + (RUNS if broken_down else 0))
            progress.tick()
    minutes, seconds = divmod(math.ceil(estimate), 60)
    print(f"{len(every)} variants, {settings.rounds} rounds: about {minutes}:{seconds:02d} min", flush=True)
    found: list[Row] = []
    shares: list[Shares] = []
    start = time.perf_counter()
    with Progress("measuring", len(every) * settings.rounds) as progress:
        for group in variants.values():
            runs = [partial(timed_pass, v.make, v.batches, device) for v in group]
            found += results(group, time_in_turn(runs, settings.rounds, progress.tick))
            if settings.breakdown:
                shares += shares_of(group, models, device)
    print(f"measured in {time.perf_counter() - start:.0f} s")
    return found, shares


def _next(settings: BenchSettings, measured: BenchModel, found: list[Row]) -> dict[str, str]:
    """The command to run next: calibrate for the largest speed-up that was reached, or train such a model."""
    if settings.model is None or not measured.trained:
        return {"train one": "python -m mebert fit --config configs/quickstart.yaml"}
    speed = max(row.target for row in found if row.policy and row.target is not None)
    words = ["--model", settings.model]
    if settings.texts is not None and not settings.texts.endswith(".txt"):  # lines of text have no labels
        words += ["--file", settings.texts]
        words += ["--text_column", settings.text_column] if settings.text_column != "text" else []
        words += ["--text_pair_column", settings.text_pair_column] if settings.text_pair_column else []
    return {"choose this speed": f"python -m mebert calibrate {shlex.join(words)} --speedup_flops {speed:g}"}
