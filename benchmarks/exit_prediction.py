"""Can the exit be read off a text's tokens, before any layer runs? GEEP's exit prediction, and what its idea allows.

    python benchmarks/recipe.py run --only recipe=self_heads_10                             # SNLI and SST-2
    python benchmarks/recipe.py run --config configs/study/exit_prediction.yaml        # QQP, AG's News, IMDB
    python benchmarks/exit_prediction.py run
    python benchmarks/exit_prediction.py report                                        # docs/exit_prediction.md

Each model's predictors are fitted to rows that it was not trained on, whose labels are not used, and once to its
training rows. On the test rows all are compared at the very same speed-up by layers (between two coverages by a coin
toss): with a fixed exit, with the policy (entropy) that they predict, and with the best that any choice could reach.
Shapes: N rows, E exits, C classes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from exit_prediction_kinds import FITTED, GAINS, Rows, expected_exit, matched_by_rank
from recipe import RESULTS, ROOT, SCREEN, cells, result_path
from torch import Tensor

from mebert.data import TextDataModule
from mebert.data.tokenised import TokenisedSplit
from mebert.exit_predictor.coverage import choose_exits
from mebert.metrics.curve import replay, threshold_for_speedup
from mebert.models import MultiExitModel, model_inputs
from mebert.policies import Entropy

STUDY = ROOT / "configs" / "study" / "exit_prediction.yaml"
PLACE = RESULTS / "exit_prediction"
SPEEDS, MOST, RESAMPLES = (1.5, 2.0, 3.0), 10_000, 1000
Points = list[tuple[float, Tensor]]
"""(share of the layers run, whether each text's answer is right (N,)) of several settings."""


@torch.no_grad()
def scored(model: MultiExitModel, data: TextDataModule, split: TokenisedSplit) -> Rows:
    """A split through all layers, in bfloat16 as it was trained."""
    collate, order = data.collate_for(), np.argsort(-split.lengths, kind="stable")
    logits, embedded = [], []
    for start in range(0, len(order), 128):
        inputs = model_inputs(collate([split[int(row)] for row in order[start : start + 128]]))
        with torch.autocast("cpu", torch.bfloat16):
            logits.append(model(**inputs).logits.float())
            hidden = model.adapter.embed(inputs["input_ids"], None).float()
        mask = inputs["attention_mask"].unsqueeze(-1)
        embedded.append((hidden * mask).sum(1) / mask.sum(1))
    back = torch.from_numpy(np.argsort(order))
    entropy = Entropy().bind(model)
    every = torch.cat(logits, 1)[:, back]
    labels = torch.from_numpy(np.asarray(split.labels))
    return Rows(split, every, labels, entropy.score_exits(every, every), torch.cat(embedded)[back])


def curve(rows: Rows, distribution: Tensor, layers: list[int]) -> Points:
    """All coverages of a distribution (N, E), from the earliest exits to the last."""
    masses = torch.unique(distribution.cumsum(-1)[:, :-1])
    steps = torch.linspace(0, len(masses) - 1, min(400, len(masses))).long()
    coverages = [1e-9, *(float(mass) for mass in masses[steps] if 0 < mass < 1), 1.0]
    return [rows.point(choose_exits(distribution.double(), coverage), layers) for coverage in coverages]


def gains(rows: Rows, expected: Tensor, layers: list[int]) -> Points:
    """The exits with the largest expected share of right answers (N, E) less a price for a layer, for many prices."""
    cost = torch.tensor(layers, dtype=torch.float64) / layers[-1]
    prices = [0.0, *torch.logspace(-4, 1, 400).tolist()]
    return [rows.point((expected.double() - price * cost).argmax(-1), layers) for price in prices]


def at_speed(points: Points, speed: float) -> Tensor:
    """The chance of each text (N,) to be right at exactly a speed-up: between two settings by a coin toss."""
    ordered = sorted(points, key=lambda point: point[0])
    below = max((p for p in ordered if p[0] <= 1 / speed), key=lambda p: p[0], default=ordered[0])
    above = min((p for p in ordered if p[0] >= 1 / speed), key=lambda p: p[0], default=ordered[-1])
    if above[0] - below[0] < 1e-9:
        return below[1]
    share = (1 / speed - below[0]) / (above[0] - below[0])
    return below[1] + share * (above[1] - below[1])


def against_fixed(right: Tensor, fixed: Tensor) -> dict[str, float]:
    """Accuracy, the difference to a fixed exit at the same speed, and its 95 % interval (bootstrap over texts)."""
    off = (right - fixed).numpy()
    draws = np.random.default_rng(0).integers(0, len(off), (RESAMPLES, len(off)))
    low, high = np.quantile(off[draws].mean(1), [0.025, 0.975])
    return {"accuracy": float(right.mean()), "gain": float(off.mean()), "low": float(low), "high": float(high)}


def study(fit: Rows, train: Rows, test: Rows, layers: list[int], vocabulary: int) -> dict[str, Any]:
    """Every predictor at every speed-up on the test rows."""
    found: dict[str, Any] = {"fit_rows": len(fit.split), "test_rows": len(test.split), "speeds": {}}
    ends = torch.arange(len(layers)).unsqueeze(1).expand(-1, len(test.split))
    fixed_points = [test.point(exits, layers) for exits in ends]
    ends_of = [fixed_points[0], fixed_points[-1]]
    expected = {name: gains(test, kind(fit, test, vocabulary), layers) for name, kind in GAINS.items()}
    for speed in SPEEDS:
        fixed = at_speed(fixed_points, speed)
        threshold = threshold_for_speedup(test.entropy, layers, speed)
        assert threshold is not None
        policy = test.right(replay(test.entropy, threshold))
        figures: dict[str, Any] = {
            "fixed": float(fixed.mean()),
            "full": float(fixed_points[-1][1].mean()),
            "break_even": break_even(test, replay(test.entropy, threshold), layers, speed, fixed),
            "policy": against_fixed(policy, fixed),
            "any choice": against_fixed(best_choice(test, layers, speed), fixed),
            **{name: against_fixed(at_speed(points, speed), fixed) for name, points in expected.items()},
        }
        for rows, beside in ((fit, ""), (train, ", training rows")):
            limit = threshold_for_speedup(rows.entropy, layers, speed)
            assert limit is not None
            taken, on_test = replay(rows.entropy, limit), replay(test.entropy, limit)
            for name, kind in FITTED.items():
                if beside and name != "table":
                    continue
                distribution = kind(rows, taken, test, vocabulary)
                points = curve(test, distribution, layers)
                figures[name + beside] = against_fixed(at_speed(points, speed), fixed) | about(distribution, on_test)
                if name in ("table", "product, calibrated") and not beside:
                    exits = matched_by_rank(expected_exit(distribution), taken)
                    figures[f"{name}, by rank"] = against_fixed(
                        at_speed([*ends_of, test.point(exits, layers)], speed), fixed
                    )
        found["speeds"][f"{speed:g}"] = figures
    return found


def best_choice(rows: Rows, layers: list[int], speed: float) -> Tensor:
    """Whether answers are right (N,) where texts leave at a speed-up with the labels known: no predictor can do better.

    Texts that no exit gets right leave first; those that need the fewest layers to be right are served first.
    """
    right = rows.logits.argmax(-1) == rows.labels
    first = torch.where(right.any(0), right.int().argmax(0), 0)
    cost = torch.tensor(layers, dtype=torch.float64)
    spare = (layers[-1] / speed - layers[0]) * len(first)
    wanted, kept = cost[first] - layers[0], right[0].double().clone()
    for row in wanted.argsort().tolist():
        if right[0, row] or not right[:, row].any():
            continue
        spare -= float(wanted[row])
        if spare < 0:
            break
        kept[row] = 1.0
    return kept


def break_even(rows: Rows, taken: Tensor, layers: list[int], speed: float, fixed: Tensor) -> float | None:
    """The rank correlation with the policy's exits from which on such exits beat a fixed one; None: not even at 1.

    The policy's order of the texts, disturbed by noise; the shares of the exits stay. Mean over ten draws.
    """
    from scipy.stats import spearmanr

    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(10, len(taken), generator=generator, dtype=torch.float64).argsort().argsort()
    order = (taken + 0.01 * torch.rand(len(taken), generator=generator)).argsort().argsort().double()
    ends = [rows.point(torch.full_like(taken, exit_index), layers) for exit_index in (0, len(layers) - 1)]
    last: tuple[float, float] | None = None
    for share in torch.linspace(0, 1, 21).tolist():
        found = []
        for one in noise:
            disturbed = share * order + (1 - share) * one
            point = rows.point(matched_by_rank(disturbed, taken), layers)
            gain = float((at_speed([*ends, point], speed) - fixed).mean())
            found.append((float(spearmanr(disturbed.numpy(), taken.numpy()).statistic), gain))
        correlation, gain = (float(np.mean(values)) for values in zip(*found, strict=True))
        if gain > 0:
            if last is None:
                return correlation
            part = -last[1] / (gain - last[1])
            return last[0] + part * (correlation - last[0])
        last = correlation, gain
    return None


def about(distribution: Tensor, taken: Tensor) -> dict[str, float]:
    """How a distribution (N, E) goes with the exits taken (N,): rank correlation, spread, the most probable exit."""
    from scipy.stats import spearmanr

    expected, likeliest = expected_exit(distribution), distribution.argmax(-1)
    counts = torch.bincount(likeliest, minlength=distribution.shape[1])
    return {
        "rank_correlation": float(spearmanr(expected.numpy(), taken.numpy()).statistic),
        "spread": float(expected.std()),
        "spread_taken": float(taken.double().std()),
        "commonest": float(counts.max()) / len(taken),
    }


def run_cell(cell: Any) -> None:
    """One model."""
    path = PLACE / f"{cell.task}.json"
    if path.exists():
        return
    model = MultiExitModel.from_pretrained(str(cell.folder / "model")).eval()
    given = dict(cell.config["data"]["init_args"])
    modules = {}
    for name, size in (("part", given.pop("max_train_samples")), ("whole", None)):
        data = TextDataModule(tokenizer=str(cell.folder / "model"), max_train_samples=size, **given)
        data.prepare_data()
        data.setup()
        modules[name] = data
    data, every = modules["part"], modules["whole"].split("train")
    train = data.split("train")
    unseen = np.flatnonzero(~np.isin(every.index, train.index))
    unseen = np.random.default_rng(1).permutation(unseen)[:MOST]
    fit, own, test = (
        scored(model, data, split) for split in (every.select(np.sort(unseen)), train, data.split("test"))
    )
    vocabulary = int(model.adapter.config.vocab_size)
    result = {"task": cell.task, "train_rows": len(train), **study(fit, own, test, list(model.exit_layers), vocabulary)}
    PLACE.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(cell.task, json.dumps(result["speeds"]["2"], indent=1), flush=True)


def main(run: Callable[[Any], None] = run_cell) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    if parser.parse_args().command == "report":
        from exit_prediction_report import write_report

        write_report()
        return
    torch.set_num_threads(1)
    for config in (SCREEN, STUDY):
        for cell in cells(config, ["recipe=self_heads_10"]):
            if (cell.folder / "model").exists() and (result_path(cell).exists()):
                run(cell)


if __name__ == "__main__":
    main()
