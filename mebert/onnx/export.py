"""A trained model as a folder for ONNX Runtime: graphs, `manifest.json`, `tokenizer.json` and the runner itself."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

import mebert
from mebert.data.tokenizers import unsplit_tokens
from mebert.errors import UserError
from mebert.models.cascade import CascadeModel
from mebert.models.multi_exit import MultiExitModel
from mebert.onnx import runner
from mebert.onnx.asked import load_plain, with_question
from mebert.onnx.graphs import embedding_graph, exit_graphs
from mebert.onnx.single_graph import NAME, single_graph
from mebert.onnx.up_to_date import MANIFEST, NOT_ON_TOP, state_of
from mebert.policies.base import ExitPolicy
from mebert.policies.stored_thresholds import stored_point
from mebert.storage.atomic import write_text
from mebert.storage.model_spec import ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RUNNER = "runner.py"


@dataclass
class Source:
    """What is exported: a model in evaluation mode, its policy, its tokenizer, what is stored about it, and lengths.

    Attributes:
        folder: Of the model.
        max_length: Tokens to which texts are cut.
        longest: The most tokens that the model can read.
    """

    folder: str
    model: MultiExitModel
    policy: ExitPolicy
    tokenizer: PreTrainedTokenizerBase
    spec: ModelSpec
    max_length: int
    longest: int


def write_export(source: Source, folder: Path, int8: bool, single: bool = False) -> bool:
    """Write all files of an export into an empty folder; returns whether the layers are fused.

    Args:
        source: What is exported.
        folder: Where to.
        int8: Quantise the weights of the layers to 8 bits, and their inputs while they run.
        single: Write `model.onnx`, too, all graphs in one; the manifest's `files` leave it out, as the runner does.

    Raises:
        UserError: A model, a policy or a tokenizer that has no form in ONNX.
    """
    if isinstance(source.model, CascadeModel):
        raise UserError("export: a cascade is several models: export the runs that it was made of, one by one")
    if not getattr(source.tokenizer, "is_fast", False):
        raise UserError(
            "export: the tokenizer has no tokenizer.json (it is a slow one): save a fast one with the model"
        )
    segments = "token_type_ids" in source.tokenizer.model_input_names
    names, fused = write_graphs(source.model, source.policy, segments, source.spec.stride is not None, folder)
    if int8:
        quantise_graphs(folder, names, folder)
    source.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    shutil.copyfile(str(runner.__file__), folder / RUNNER)
    manifest = _manifest(source, names, int8)
    manifest["files"] = {file.name: _digest(file) for file in _written(folder)}
    if single:
        graph = single_graph(folder, names, source.model.problem_type, source.spec.stride is not None)
        onnx.save(graph, folder / NAME)
        ends = {"inputs": graph.graph.input, "outputs": graph.graph.output}
        described = {what: [value.name for value in values] for what, values in ends.items()}
        manifest["single_graph"] = {"file": NAME, "sha256": _digest(folder / NAME), **described}
    write_text(json.dumps(manifest, indent=2) + "\n", folder / MANIFEST)
    return fused


def write_graphs(
    model: MultiExitModel, policy: ExitPolicy, segments: bool, windows: bool, folder: Path
) -> tuple[list[str], bool]:
    """Write `embed.onnx` and a graph an exit, in float32; returns the names of these, and whether layers are fused.

    Args:
        model: In evaluation mode.
        policy: Bound to it.
        segments: The model reads segment ids.
        windows: It reads texts in windows.
        folder: Where to.
    """
    model.requires_grad_(False)
    onnx.save(embedding_graph(model, segments), folder / "embed.onnx")
    names, fused = list[str](), True
    for found in exit_graphs(model, policy, windows):
        names.append(f"exit_{len(names) + 1}.onnx")
        fused = found.fused
        last = len(names) == model.num_exits
        onnx.save(found.graph if last else with_question(found.graph), folder / names[-1])
    return names, fused


def quantise_graphs(folder: Path, exits: Sequence[str], out: Path) -> None:
    """Write the exits' graphs of a folder with weights of 8 bits, whose inputs are quantised as they come, to `out`."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)  # it advises to infer shapes first, which fused operators do not have
    try:
        for name in exits:
            quantize_dynamic(
                load_plain(folder / name),
                out / name,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Attention"],
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
            if name != exits[-1]:
                onnx.save(with_question(onnx.load(out / name)), out / name)
    finally:
        logger.setLevel(before)


def _manifest(source: Source, exits: list[str], int8: bool) -> dict[str, Any]:
    spec, policy, tokenizer = source.spec, source.policy, source.tokenizer
    point = stored_point(policy, spec.chosen_by, spec.expected)
    state = state_of(source.folder, policy.name)
    expected = None if point.expected is None else point.expected.model_dump(exclude={"threshold"})
    return {
        "format": runner.FORMAT,
        "mebert_version": mebert.__version__,
        "precision": "int8" if int8 else "float32",
        "family": source.model.adapter.config.model_type,
        "labels": state["labels"],
        "problem_type": source.model.problem_type,
        "exits": exits,
        "exit_layers": state["exit_layers"],
        "model": {name: state[name] for name in NOT_ON_TOP},
        "policy": {
            "name": policy.name,
            "threshold": policy.threshold,
            "chosen_by": point.chosen_by,
            "expected": expected,
        },
        "operating_points": state["operating_points"],
        "max_drops": state["max_drops"],
        "expected": [one.model_dump() for one in spec.expected.get(policy.name, ())],
        "max_length": source.max_length,
        "longest": source.longest,
        "stride": spec.stride,
        "num_texts": spec.num_texts,
        "columns": None if spec.columns is None else spec.columns.model_dump(),
        "label_separator": spec.label_separator,
        "pad_token_id": tokenizer.pad_token_id or 0,
        "truncation_side": tokenizer.truncation_side,
        "split_special_tokens": bool(tokenizer.split_special_tokens),
        "unsplit": unsplit_tokens(tokenizer) if tokenizer.split_special_tokens else [],
    }


def _written(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.iterdir()) if file.suffix in (".onnx", ".json"))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
