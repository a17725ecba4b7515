"""The measurement from end to end: open, prepare, time in turn, print, write."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from mebert.commands.bench.asked import Asked, asked_points, known_accuracies, operating_points
from mebert.commands.bench.baselines import baselines_of
from mebert.commands.bench.bench_model import BenchModel, open_bench_model
from mebert.commands.bench.breakdown import RUNS, Shares, shares_of
from mebert.commands.bench.command import BenchSettings, Grid
from mebert.commands.bench.onnx_graphs import OnnxGraphs, OnnxPrecision, left_out, onnx_graphs
from mebert.commands.bench.output import describe, explained, print_breakdown, print_rows, save_bars, write_files
from mebert.commands.bench.points import OperatingPoint
from mebert.commands.bench.results import Row, results
from mebert.commands.bench.texts import Texts, choose_texts
from mebert.commands.bench.timing import estimate_seconds, run_pass, time_in_turn, timed_pass, within_budget
from mebert.commands.bench.variants import Variant, make_variants
from mebert.commands.bench.verdict import verdict
from mebert.data.tokenizers import DEFAULT_LENGTH, tell_unknown_length
from mebert.errors import UserError
from mebert.inference import PrecisionName, prepare_model
from mebert.models import MultiExitModel
from mebert.report.layout import print_pairs
from mebert.report.next_steps import bench_command
from mebert.runtime.precision import inference_precision, pick_device, pick_precision
from mebert.runtime.progress import Progress
from mebert.storage.model_spec import ModelSpec

DEFAULT_TOKENIZER = "google-bert/bert-base-uncased"


def run_bench(settings: BenchSettings) -> list[Row]:
    """Measure, print, write; returns the rows. A UserError for a setting that cannot work."""
    start, grid = time.perf_counter(), settings.grid()
    device = pick_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    precisions = pick_precisions(settings.precisions, device, settings.thorough)
    measured = open_bench_model(settings)
    longest = _longest(settings, measured)
    texts = _texts(settings, measured, longest)
    settings = replace(settings, max_length=longest)
    measured.model.to(device)
    models = {p: prepare_model(measured.model, p, settings.compile, device) for p in precisions}
    asked = asked_points(settings, grid, measured)
    points, notes = operating_points(settings, grid, measured, texts, models, asked)
    known = known_accuracies(measured, points[precisions[0]], texts, asked) if measured.trained else None
    graphs, why = _onnx(settings, grid, measured, texts, points[precisions[0]], device)
    notes += [why] if why else []
    setting = describe(settings, measured, texts, device, precisions, notes)
    if measured.point is not None:
        setting |= {f"the model's {name}": line for name, line in measured.point.as_lines().items()}
    print_pairs("Measured:", {name: value for name, value in setting.items() if value not in ("", None)})

    hugging_face = baselines_of(measured.model, device, settings.compile)

    def variants(share: float) -> dict[int, list[Variant]]:
        return make_variants(settings, grid, measured.model, texts.rows, points, models, hugging_face, share, graphs)

    until = math.inf if grid.budget is None else start + grid.budget
    found, shares = _measure(settings, grid, variants, models, device, until)

    line = verdict(found, known, asked.full_depth)
    print_rows(found, explained(found, measured.trained))
    if shares:
        print_breakdown(shares)
    print(line)
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in measured.name).strip("_")
    folder = settings.out or Path("bench") / safe
    write_files(folder, setting, found, shares, line, known)
    save_bars(found, folder / "bench.png", f"{measured.name}: samples per second, {setting['device']}")
    print(f"Saved: {folder / 'bench.json'}, {folder / 'bench.csv'}, {folder / 'bench.png'}")
    print_pairs("Next:", _next(settings, measured, found, asked, pays="pays here" in line))
    return found


def pick_precisions(
    given: Sequence[PrecisionName] | None, device: torch.device, thorough: bool = True
) -> list[PrecisionName]:
    """The precisions to measure. None: that of `predict` here; if `thorough`, float32 and all that may be faster."""
    if given is None:
        own = inference_precision(pick_precision(device.type)[0])
        if not thorough:
            return [own]
        chosen: list[PrecisionName] = ["float32"] if own == "float32" else ["float32", own]
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


def _texts(settings: BenchSettings, measured: BenchModel, longest: int) -> Texts:
    tokenizer = settings.tokenizer or measured.tokenizer or DEFAULT_TOKENIZER
    texts = choose_texts(settings, measured, longest, tokenizer)
    vocabulary = int(measured.model.adapter.config.vocab_size)
    if int(texts.rows.tokens.max()) >= vocabulary:
        raise UserError(
            f"the tokenizer {tokenizer!r} gives token ids that {measured.name} does not have (it has {vocabulary}); "
            "give the model's own by --tokenizer"
        )
    return texts


def _onnx(
    settings: BenchSettings,
    grid: Grid,
    measured: BenchModel,
    texts: Texts,
    points: Sequence[OperatingPoint],
    device: torch.device,
) -> tuple[dict[OnnxPrecision, OnnxGraphs], str]:
    """The graphs for ONNX Runtime by precision; none where it is not measured, and why, in a line."""
    why = left_out(settings, grid, device)
    if why is not None:
        return {}, why
    try:
        return onnx_graphs(settings, measured, texts.rows, points), ""
    except UserError as error:
        return {}, f"ONNX Runtime is not measured: {error}"


def _measure(
    settings: BenchSettings,
    grid: Grid,
    make: Callable[[float], dict[int, list[Variant]]],
    models: Mapping[PrecisionName, MultiExitModel],
    device: torch.device,
    until: float,
) -> tuple[list[Row], list[Shares]]:
    """Time the variants that `make` makes of a share of the texts, until about a moment of `time.perf_counter`."""
    variants = make(1.0)
    every = [variant for group in variants.values() for variant in group]
    once, apart = dict.fromkeys(variants, 0.0), 0.0  # seconds of a round by batch size, and of the breakdown
    with Progress("warming up", len(every)) as progress:
        for v in every:
            if settings.compile or device.type != "cpu":  # compilation and choice of kernels for every shape
                run_pass(v.make(), v.batches, device)
            seconds = estimate_seconds(v.make(), v.batches, device)
            once[v.batch_size] += seconds * (1 if device.type == "cpu" else 2)
            apart += seconds * RUNS if grid.breakdown and v.name == "shrink" else 0.0
            progress.tick()
    left = until - time.perf_counter()
    rounds, share = within_budget(sum(once.values()), settings.rounds, left - apart)
    cut = [] if rounds == settings.rounds else [f"{rounds} of {settings.rounds} rounds"]
    if share < 1.0:
        variants = make(share)
        cut.append(f"{share:.0%} of the texts")
    minutes, seconds = divmod(math.ceil(share * (sum(once.values()) * rounds + apart)), 60)
    print(f"{len(every)} variants, {rounds} rounds: about {int(minutes)}:{int(seconds):02d} min", flush=True)
    if cut:
        print(f"Cut to the budget of {grid.budget:g} s: {', '.join(cut)} (--budget or --thorough measures more)")
    found: list[Row] = []
    shares: list[Shares] = []
    start = time.perf_counter()
    spent = 0.0
    with Progress("measuring", len(every) * rounds) as progress:
        for size, group in variants.items():
            spent += once[size] / sum(once.values())
            runs = [partial(timed_pass, v.make, v.batches, device) for v in group]
            end = start + spent * (until - start)
            found += results(group, time_in_turn(runs, rounds, progress.tick, end))
            if grid.breakdown:
                shares += shares_of(group, models, device)
    print(f"measured in {time.perf_counter() - start:.0f} s")
    return found, shares


def _next(
    settings: BenchSettings, measured: BenchModel, found: Sequence[Row], asked: Asked, pays: bool
) -> dict[str, str]:
    """The commands to run next: the whole grid, a larger drop, a speed that was asked for, or a model to measure."""
    if settings.model is None or not measured.trained:
        return {"train one": "python -m mebert fit --config configs/quickstart.yaml"}
    words = [settings.model]
    if settings.texts is not None and not settings.texts.endswith(".txt"):  # lines of text have no labels
        words += ["--file", settings.texts]
        words += ["--text_column", settings.text_column] if settings.text_column else []
        words += ["--text_pair_column", settings.text_pair_column] if settings.text_pair_column else []
    calibrate = f"python -m mebert calibrate {shlex.join(words)}"
    if asked.threshold is None:
        speed = max(row.target for row in found if row.policy and row.target is not None)
        return {"choose this speed": f"{calibrate} --speedup_flops {speed:g}"}
    commands = {"measure more": f"{bench_command(settings.model)} --thorough"} if not settings.thorough else {}
    if not pays and measured.point is not None:
        more = f"--max_drop {2 * measured.point.allowed_drop:g} --use {measured.point.policy}"
        commands["allow a larger drop"] = f"{calibrate} {more}"
    return commands or {"faster": f"{calibrate} --speedup_flops 3"}
