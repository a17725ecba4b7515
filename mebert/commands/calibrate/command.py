"""`python -m mebert calibrate`: the threshold for a speed-up, a budget, a largest drop, or a guarantee."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mebert.choices import PrecisionName
from mebert.errors import UserError, check_range

Loss = Literal["mistakes", "disagreement", "difference"]
PValue = Literal["loss", "wsr"]
Correction = Literal["fixed_sequence", "holm"]


@dataclass
class CalibrationSettings:
    """Choose thresholds for a trained model from one pass over labelled rows, and store them with it.

    A speed-up, a budget and a drop are met on these very rows. A guarantee (epsilon and delta) is about new rows; with
    too few rows for it, it is refused. Stored are speed-ups by layers, drops and guarantees: for `speedup=` and
    `max_drop=` of EarlyExitClassifier, and `predict --speedup` and `--max_drop`.

    Args:
        model: A run, a model folder, or (without `save`) a Hub id.
        file: File of own rows: .csv, .tsv, .jsonl or .parquet.
        task: Named task whose rows calibrate; without task and file: the data of the run.
        split: Split of the task or the run: train, val, test, or such as val_mismatched.
        text_column: Column of the (first) text in `file`; null for that of the training, else found.
        text_pair_column: Column of the second text of a pair in `file`; null for that of the training, else found.
        label_column: Column of the label in `file`; null for that of the training, else found.
        max_length: Longest input in tokens, of a task or file; null for that of its training.
        policies: Names, such as entropy, stacked, edr; null for the model's own. What they have to choose besides the
            threshold (temperatures, weights, lambda, patience) is chosen on these rows, too; for a guarantee on a
            third of them, which is then held out.
        speedup: Wanted speed-up by layers, one or several: the strictest threshold that reaches it.
        speedup_flops: Wanted speed-up by FLOPs, heads and policy counted, one or several.
        layers: Budget: mean layers per sample, at most.
        gflops: Budget: mean GFLOPs per sample, at most.
        max_drop: Largest allowed drop of the task's metric below the full model's on these rows; the fastest threshold
            within it.
        epsilon: A guarantee: at most this share of new rows is lost by leaving early, ...
        delta: ... except with at most this probability.
        loss: What counts as lost: `mistakes`, wrong where the full model is right; `disagreement`, a prediction that
            differs from the full model's; `difference`, the difference of the accuracies (needs far more rows, or
            p_value wsr).
        p_value: The test of a guarantee: `loss`, that of the loss (exact binomial; Hoeffding-Bentkus for `difference`);
            `wsr`, the betting test of Waudby-Smith and Ramdas, far better for `difference`.
        correction: How the tests of many thresholds are kept honest: `fixed_sequence`, from strict to loose until one
            fails; `holm`, fewer of them in any order, past those that fail.
        per_exit: A threshold for each exit instead of one for all, chosen together; for a guarantee, how they stand to
            each other is chosen on a third of the rows, which is held out.
        precision: float32, bfloat16 or int8, as the model will run; null for the default of EarlyExitClassifier here.
        batch_size: Rows of a batch.
        device: auto, cpu, cuda, cuda:1, mps.
        save: Store what was found in the model's exits.json.
        use: One of the policies: make it, fitted and at the threshold of the first request (in the order of these
            arguments), the model's own.
    """

    model: str | None = None
    file: str | None = None
    task: str | None = None
    split: str = "val"
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None
    max_length: int | None = None
    policies: list[str] | None = None
    speedup: float | list[float] | None = None
    speedup_flops: float | list[float] | None = None
    layers: float | list[float] | None = None
    gflops: float | list[float] | None = None
    max_drop: float | list[float] | None = None
    epsilon: float | list[float] | None = None
    delta: float = 0.1
    loss: Loss = "mistakes"
    p_value: PValue = "loss"
    correction: Correction = "fixed_sequence"
    per_exit: bool = False
    precision: PrecisionName | None = None
    batch_size: int = 64
    device: str = "auto"
    save: bool = True
    use: str | None = None

    def __post_init__(self) -> None:
        if self.model is None:
            raise UserError("model is missing: give a run or a model folder, such as calibrate RUN --max_drop 0.005")
        if self.use is not None and self.policies is None:
            self.policies = [self.use]
        if self.use is not None and (not self.save or self.use not in (self.policies or ())):
            raise UserError(f"use {self.use!r} must be one of policies ({self.policies}), and save must be true")
        if self.task is not None and self.file is not None:
            raise UserError(f"task and file were both given ({self.task}, {self.file}); give one of them")
        for name in ("batch_size", "max_length"):
            check_range(name, getattr(self, name), 1, 2**31 - 1)


calibrate = CalibrationSettings
