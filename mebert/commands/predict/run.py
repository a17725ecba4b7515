"""The command: open the model, answer the texts in their order, and print or write the answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from mebert.commands.predict.command import PredictSettings
from mebert.commands.predict.source import Texts, open_texts
from mebert.data.columns import rename_taken, tell_renamed
from mebert.data.files import ONE_LABEL, LabelForm
from mebert.data.label_names import DEFAULT_SEPARATOR
from mebert.data.model_rows import run_data
from mebert.errors import UserError
from mebert.inference.auto_backend import SIZES, AutoBackend
from mebert.inference.classifier import EarlyExitClassifier
from mebert.inference.prediction import Prediction
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import USUAL_METRICS
from mebert.models.multi_exit import MultiExitModel
from mebert.onnx.backend import OnnxBackend, is_exported, refuse_export
from mebert.report.prediction_files import Chunk, check_prediction_path, label_cells, print_table, write_table
from mebert.report.prediction_score import PredictionScore
from mebert.storage.model_spec import ModelSpec
from mebert.storage.paths import check_output
from mebert.storage.run_folder import NamedModel, find_model
from mebert.storage.stored_weights import trained_folder

ROWS = 64  # rows that are printed or written together


def run_predict(settings: PredictSettings) -> None:
    """Answer texts with a model."""
    if settings.out is not None:
        check_prediction_path(settings.out, settings.format, "")
        check_output("out", settings.out, inputs=[settings.file] if settings.file else [])
    named = find_model(str(settings.model))
    if settings.own_rows and (named.run is None or named.model is None):
        raise UserError(
            f"{settings.model} has no rows of its own, as a finished run has: give a file (predict {settings.model} "
            f'my.csv), lines of standard input (predict {settings.model} -) or --text "..."'
        )
    opened = _open(named, settings)
    classifier = _for_batches(opened, settings) if isinstance(opened, AutoBackend) else opened
    numbers = settings.threshold, settings.speedup, settings.max_drop
    point = classifier.point_of(settings.policy, *numbers)
    trained = _trained_on(named, opened, required=settings.own_rows)
    form = _label_form(named, classifier, trained)
    texts = open_texts(settings, trained, classifier.num_texts, form)
    size: dict[str, Any] = {} if settings.batch_size is None else {"batch_size": settings.batch_size}
    answers = classifier(
        texts,
        policy=settings.policy,
        threshold=settings.threshold,
        speedup=settings.speedup,
        max_drop=settings.max_drop,
        engine=settings.engine or "auto",
        max_length=settings.max_length,
        **size,
    )
    depth = np.asarray(classifier.exit_layers)
    if (settings.text or settings.pair) and settings.out is None and settings.format is None:
        for answer in answers:
            print(_in_words(answer, len(depth)))
        return
    at_exits = np.zeros(len(depth), dtype=np.int64)  # rows of each exit, (E,)
    usual, several = USUAL_METRICS[classifier.problem_type], classifier.multi_label
    metrics = [name for name in getattr(trained, "metrics", usual) if name not in RANKING_METRICS]
    score = PredictionScore(metrics or usual, classifier.label_names, several=several)
    begin = time.perf_counter()
    found = _chunks(answers, texts, classifier.label_names, at_exits, score)
    ending = settings.out.suffix if settings.out is not None else f".{settings.format or 'csv'}"
    chunks = label_cells(found, form.separator, ending)
    first = next(chunks, None)
    if first is None:
        raise UserError("standard input holds no line; write one text a line" if settings.file == "-" else "no text")
    if settings.out is not None:
        write_table(settings.out, chain([first], chunks))
    else:
        print_table(sys.stdout, settings.format or "csv", chain([first], chunks))
    rows, seconds = int(at_exits.sum()), time.perf_counter() - begin
    lines = [
        f"{rows:,} texts in {seconds:.1f} s" + (f", written to {settings.out}" if settings.out else ""),
        f"operating point: {point}; mean exit {at_exits @ np.arange(1, len(depth) + 1) / rows:.2f} of {len(depth)}, "
        f"{depth[-1] * rows / (at_exits @ depth):.2f}x by layers, in {classifier.precision}"
        + (" on ONNX Runtime" if isinstance(classifier, OnnxBackend) else "")
        + _by_auto(opened, settings),
    ]
    if score.rows:
        lines.append(f"column {texts.label!r}: {score.line()}")
    print("\n".join(lines), file=sys.stderr)


def _open(
    named: NamedModel, settings: PredictSettings
) -> EarlyExitClassifier | OnnxBackend | AutoBackend[EarlyExitClassifier]:
    """The classifier of a model folder or Hub id; of a checkpoint, or of a run that has no model folder yet."""
    if named.checkpoint is not None and (named.model is None or Path(named.name) == named.checkpoint):
        from mebert.commands.inspect.source import open_model

        return open_model(str(named.checkpoint), settings.device, settings.precision).classifier
    if settings.backend == "onnx" or (settings.backend != "torch" and is_exported(named.name)):
        if settings.precision is not None:
            raise UserError(f"precision {settings.precision} is not for an export, which has its own; leave it out")
        return EarlyExitClassifier.from_pretrained(named.name, backend="onnx")
    refuse_export(named.name)
    folder = trained_folder(named)
    if settings.backend != "auto":
        return EarlyExitClassifier.from_pretrained(folder, settings.device, settings.precision)
    return EarlyExitClassifier.from_pretrained(folder, settings.device, settings.precision, backend="auto")


def _for_batches(
    both: AutoBackend[EarlyExitClassifier], settings: PredictSettings
) -> EarlyExitClassifier | OnnxBackend:
    """The faster one for the batches of the command."""
    if settings.policy is not None or settings.engine not in (None, "shrink"):
        return both.torch  # the export has neither
    most = settings.batch_size or SIZES[-1]
    return both.for_batch(min(len(settings.text) or len(settings.pair) // 2 or most, most))


def _by_auto(opened: object, settings: PredictSettings) -> str:
    """What the backend `auto` took, in words."""
    if settings.backend != "auto":
        return ""
    alone = "ONNX Runtime, as this is an export" if isinstance(opened, OnnxBackend) else "PyTorch alone"
    return f" (auto: {opened if isinstance(opened, AutoBackend) else alone})"


def _label_form(named: NamedModel, classifier: EarlyExitClassifier | OnnxBackend, trained: Any) -> LabelForm:
    """How labels stand in a file: as in that of the training."""
    if not classifier.multi_label:
        return ONE_LABEL
    if (form := getattr(trained, "label_form", None)) is not None:
        return LabelForm(True, form.separator)
    if isinstance(classifier, OnnxBackend):
        stored = classifier.label_separator
    else:
        stored = None if named.model is None else ModelSpec.read(named.model).label_separator
    return LabelForm(True, stored or DEFAULT_SEPARATOR)


def _trained_on(named: NamedModel, opened: Any, required: bool) -> Any:
    """The data of the run, for its rows and the names of its columns; else the names stored with the model, or None.

    Whatever backend answers: a model of pairs that reads the columns in another order gives other answers.
    """
    with nullcontext() if required else suppress(UserError):
        if named.run is not None and named.model is not None:
            exported = isinstance(opened, OnnxBackend)
            return run_data(named.model, MultiExitModel.from_pretrained(named.model) if exported else opened.model)
    if isinstance(opened, OnnxBackend):
        return opened.columns
    return None if named.model is None else ModelSpec.read(named.model).columns


def _chunks(
    answers: Iterator[Prediction], texts: Texts, names: list[str], at_exits: np.ndarray, score: PredictionScore
) -> Iterator[Chunk]:
    """Columns of some answers at a time: the number of the row, carried columns and texts, then the answer."""
    own = ["score"] if len(names) == 1 else ["labels" if score.several else "label", *(f"prob_{n}" for n in names)]
    given = rename_taken(texts.columns, ["index", *own, "exit"])
    tell_renamed(given)
    header = ["index", *given.values(), *own, "exit"]
    index = 0
    while part := list(islice(answers, ROWS)):
        rows, labels = [], []
        for answer in part:
            cells = list(texts.next_cells())
            if texts.label is not None:
                labels.append(cells.pop())
            label = answer.label if answer.labels is None else list(answer.labels)
            found = [answer.score] if label is None else [label, *answer.probabilities.values()]
            rows.append([index, *cells, *found, answer.exit])
            at_exits[answer.exit - 1] += 1
            index += 1
        columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
        if labels:
            score.add(labels, columns)
        yield columns


def _in_words(answer: Prediction, exits: int) -> str:
    shown = answer.labels if answer.label is None else (answer.label,)
    what = f"{answer.score:.4f}" if shown is None else ", ".join(f"{n} ({answer.probabilities[n]:.4f})" for n in shown)
    if not what:
        name, share = max(answer.probabilities.items(), key=lambda item: item[1])
        what = f"none of the labels (the nearest: {name}, {share:.4f})"
    return f"{what}, exit {answer.exit} of {exits}"
