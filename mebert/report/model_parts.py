"""Parameters of the parts of a model, and the cost of leaving at each exit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from rich.table import Table
from torch import Tensor, nn

from mebert.models.flops import exit_flops, single_exit_flops
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy
from mebert.report.layout import report_table

if TYPE_CHECKING:
    from mebert.metrics.curve import ExitRecord
    from mebert.modules import MultiExitModule


@dataclass
class ExitPart:
    """An exit with the layers since the previous exit."""

    layers: range  # numbers, from 1
    layer_parameters: int  # without those shared with earlier layers
    exit_parameters: int  # of the head, without those shared with earlier heads
    gflops: float  # mean cost of leaving here: all layers and heads up to it, and the policy's own products
    speedup: float  # cost of the plain model (all layers, last head alone) over this cost


@dataclass
class ModelParts:
    """The parameters of all parts of a model, which add up to `total`."""

    embeddings: int  # with their projection
    exits: list[ExitPart]
    others: int  # prototypes, learnt policies, and layers that all exits share
    total: int
    plain_gflops: float  # mean cost of the plain model


def model_parts(model: MultiExitModel, lengths: Tensor, policy: ExitPolicy | None = None) -> ModelParts:
    """Count a model's parameters, and its mean costs with the policy's own products for texts of N `lengths`.

    Lengths are in tokens, special ones included; longer ones than the model reads count as its longest.
    """
    seen: set[int] = set()
    names = dict(model.encoder.named_parameters())
    # The layer (from 1) of each parameter that belongs to one; ALBERT's belong to several.
    layer_of = {n: int(found[1]) + 1 for n in names if (found := re.search(r"(?:^|\.)layers?\.(\d+)\.", n))}
    embeddings = _count((p for n, p in names.items() if "embed" in n), seen)
    read = lengths if model.window is not None else lengths.clamp(max=model.adapter.max_length)
    different, counts = torch.unique(read, return_counts=True)
    weights = counts.double() / counts.sum()
    costs = (exit_flops(model, different, policy) * weights).sum(1) / 1e9
    plain = float((single_exit_flops(model, different) * weights).sum()) / 1e9
    exits = []
    for index, (before, layer) in enumerate(pairwise([0, *model.exit_layers])):
        layers = range(before + 1, layer + 1)
        own = _count((names[n] for n, number in layer_of.items() if number in layers), seen)
        head = _count(model.exit(index).parameters(), seen)
        cost = float(costs[index])
        exits.append(ExitPart(layers, own, head, cost, plain / cost))
    others = _count(model.parameters(), seen)
    total = embeddings + others + sum(part.layer_parameters + part.exit_parameters for part in exits)
    return ModelParts(embeddings, exits, others, total, plain)


def model_title(module: MultiExitModule) -> str:
    """A model in one line."""
    model = module.model
    exits = f"{model.num_exits} exits on {model.num_layers} layers, {model.num_labels} labels"
    return f"Model: {type(module).__name__}, {model.adapter.config.model_type}, {exits}"


def parts_of_record(module: MultiExitModule, record: ExitRecord, split: str) -> Table:
    """The parts of a module's model at the lengths of the rows that were recorded of a split."""
    lengths = record.lengths
    texts = f"the {len(lengths):,} rows of the split {split} ({float(lengths.double().mean()):.1f} tokens on average)"
    return parts_table(model_parts(module.model, lengths, module.policy), model_title(module), texts)


def parts_table(parts: ModelParts, title: str, texts: str) -> Table:
    """The parts as a table, one line for each exit."""
    columns = ["parameters", "exit's own", "GFLOPs so far", "speed-up by FLOPs"]
    table = report_table(title, ["part"], columns)
    table.add_row("embeddings", shortened(parts.embeddings), "", "", "")
    for number, part in enumerate(parts.exits, 1):
        first, last = part.layers[0], part.layers[-1]
        name = f"layer {last}" if first == last else f"layers {first}-{last}"
        numbers = [shortened(part.layer_parameters), shortened(part.exit_parameters)]
        table.add_row(f"{name}, exit {number}", *numbers, _three_digits(part.gflops), f"{part.speedup:.2f}x")
    if parts.others:
        table.add_row("other parts", shortened(parts.others), "", "", "")
    table.add_section()
    table.add_row("all", shortened(parts.total), "", _three_digits(parts.plain_gflops), "1.00x")
    table.caption = (
        f"GFLOPs so far: of leaving there after asking every exit up to it; all: the plain model, its last exit alone. "
        f"At the lengths of {texts}."
    )
    return table


def _count(parameters: Iterable[nn.Parameter], seen: set[int]) -> int:
    """The number of elements of the parameters that are not in `seen` yet; they are added to it."""
    new = [parameter for parameter in parameters if id(parameter) not in seen]
    seen |= {id(parameter) for parameter in new}
    return sum(parameter.numel() for parameter in new)


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".")


def shortened(count: int) -> str:
    """A number of parameters in short form.

    >>> shortened(323), shortened(10_260), shortened(22_713_000)
    ('323', '10.3 k', '22.7 M')
    """
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.1f} k" if count >= 1000 else str(count)
