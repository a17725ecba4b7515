"""`python -m mebert inspect`: what does each exit predict for this text, and why does it leave where it does?"""

from __future__ import annotations

from pathlib import Path

from mebert.choices import PrecisionName
from mebert.commands.inspect.settings import InspectFormat


def inspect(
    model: str | None = None,
    text: list[str] = [],  # noqa: B006  (jsonargparse copies it)
    pair: list[str] = [],  # noqa: B006
    policy: str | None = None,
    threshold: float | None = None,
    speedup: float | None = None,
    max_drop: float | None = None,
    task: str | None = None,
    file: str | None = None,
    split: str = "val",
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str = "label",
    samples: int = 500,
    precision: PrecisionName | None = None,
    device: str = "auto",
    format: InspectFormat | None = None,
    out: Path | None = None,
) -> None:
    """Look inside one model: a text exit by exit, its tokens, and what each exit sees.

    Each text gets a table: prediction and confidence of every exit, the policy's score beside its threshold, where the
    text leaves, what it has cost by then. A model with an exit predictor (`fit --exit_prediction.kind token`) also
    shows the predicted layer of every token. The page and the picture show every exit's prototypes (class means where
    there are none), rows of the run's data and the texts in two dimensions.

    Args:
        model: A checkpoint, a run, or its folder `model`. May be given without the name: inspect runs/a/version_0.
        text: One or several texts.
        pair: Two texts that belong together; may be given several times.
        policy: Name of the policy; null for the model's own. Another one needs a threshold.
        threshold: Threshold of the policy, in [0, 1], instead of the stored one.
        speedup: Use the threshold that is stored for this speed-up by layers.
        max_drop: Use the threshold that `calibrate` stored for this largest drop of the metric.
        task: Named task whose rows are shown beside the texts; without task and file: the data of the run.
        file: File of labelled rows to show: .csv, .tsv, .jsonl or .parquet.
        split: Split of the task or the run: train, val, test, or such as val_mismatched.
        text_column: Column of the text in `file`.
        text_pair_column: Column of the second text of a pair in `file`.
        label_column: Column of the label in `file`.
        samples: Most rows to show, drawn with a fixed seed; 0 shows none.
        precision: float32, bfloat16 or int8; null for the default of EarlyExitClassifier on this machine.
        device: auto, cpu, cuda, cuda:1, mps.
        format: text, json, html or png; null for the ending of `out`, else text.
        out: File to write instead of standard output: .html (all of it, one file, no network), .png (the exits in two
            dimensions; also .pdf, .svg) or .json.
    """
    from mebert.commands.inspect.run import run_inspection
    from mebert.commands.inspect.settings import InspectSettings
    from mebert.errors import UserError
    from mebert.inference.stream import Text

    if model is None:
        raise UserError("model is missing: give a checkpoint, a run, or its folder model")
    if len(pair) % 2:
        raise UserError(f"pair takes two texts at a time, got {len(pair)}; quote each of them")
    texts: list[Text] = [*text, *zip(pair[::2], pair[1::2], strict=True)]
    chosen = policy, threshold, speedup, max_drop, task, file, split
    columns = text_column, text_pair_column, label_column
    run_inspection(InspectSettings(model, texts, *chosen, *columns, samples, precision, device, format, out))
