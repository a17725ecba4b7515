"""`python -m mebert calibrate`: which threshold for this speed, or for no more than this loss?"""

from __future__ import annotations

from typing import Literal

from mebert.choices import PrecisionName

__all__ = ["calibrate"]

Loss = Literal["mistakes", "disagreement", "difference"]


def calibrate(
    model: str | None = None,
    task: str | None = None,
    file: str | None = None,
    split: str = "val",
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str = "label",
    max_length: int | None = None,
    policies: list[str] | None = None,
    speedup: float | list[float] | None = None,
    speedup_flops: float | list[float] | None = None,
    layers: float | list[float] | None = None,
    gflops: float | list[float] | None = None,
    max_drop: float | list[float] | None = None,
    epsilon: float | list[float] | None = None,
    delta: float = 0.1,
    loss: Loss = "mistakes",
    precision: PrecisionName | None = None,
    batch_size: int = 64,
    device: str = "auto",
    save: bool = True,
    use: str | None = None,
) -> None:
    """Choose thresholds for a trained model from one pass over labelled rows, and store them with it.

    A speed-up, a budget and a drop are met on these very rows. A guarantee (epsilon and delta) is a promise about rows
    to come; where there are too few rows to give it, it is refused. Stored are speed-ups by layers, drops and
    guarantees: for `speedup=` and `max_drop=` of EarlyExitClassifier, and `predict --speedup` and `--max_drop`.

    Args:
        model: A run, or its folder `model`.
        task: Named task whose rows calibrate; without task and file: the data of the run.
        file: File of own rows: .csv, .tsv, .jsonl or .parquet.
        split: Split of the task or the run: train, val, test, or such as val_mismatched.
        text_column: Column of the text in `file`.
        text_pair_column: Column of the second text of a pair in `file`.
        label_column: Column of the label in `file`.
        max_length: Longest input in tokens, of a task or file; null for the longest that the model can read.
        policies: Names, such as entropy, stacked, edr; null for the model's own. What they have to choose besides the
            threshold (temperatures, weights, lambda, patience) is chosen on these rows, too, for a promise on a third
            of them that is then left out.
        speedup: Wanted speed-up by layers, one or several: the strictest threshold that reaches it.
        speedup_flops: Likewise by FLOPs, heads and policy counted.
        layers: Budget: most layers that a sample may run on average.
        gflops: Budget: most GFLOPs that a sample may cost on average.
        max_drop: Most allowed drop of the task's metric against the full model on these rows; the fastest threshold
            that keeps to it.
        epsilon: The same as a promise: at most this share of rows to come loses by leaving early, ...
        delta: ... except with at most this probability.
        loss: What counts as losing: `mistakes`, wrong where the full model is right; `disagreement`, another answer
            than the full model's; `difference`, the plain difference of the accuracies (needs far more rows).
        precision: float32, bfloat16 or int8, as the model will run; null for what EarlyExitClassifier takes here.
        batch_size: Rows of a batch.
        device: auto, cpu, cuda, cuda:1, mps.
        save: Store what was found in the model's exits.json.
        use: One of the policies: make it, fitted and at the threshold of the first thing asked for (in the order of
            these arguments), the model's own.
    """
    from mebert.calibration.points import requests
    from mebert.commands.calibrate.run import CalibrationSettings, run_calibration
    from mebert.errors import UserError

    if model is None:
        raise UserError("model is missing: give a run or its folder model")
    asked = requests(
        delta,
        loss,
        epsilon,
        speedup=speedup,
        speedup_flops=speedup_flops,
        layers=layers,
        gflops=gflops,
        max_drop=max_drop,
    )
    columns = text_column, text_pair_column, label_column
    run_calibration(
        CalibrationSettings(
            model, asked, task, file, split, *columns, max_length, policies, precision, batch_size, device, save, use
        )
    )
