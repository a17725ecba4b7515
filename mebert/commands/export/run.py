"""The command: open the model, write the graphs, compare them with PyTorch, and only then put the folder in place."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rich.filesize import decimal

from mebert.commands.export.check import TOLERANCE, Compared, Way, check_tokens, compare, rows_of
from mebert.commands.export.command import export
from mebert.data.model_rows import columns_of, run_data, trained_length
from mebert.data.tokenizers import load_tokenizer
from mebert.errors import UserError
from mebert.models.multi_exit import MultiExitModel
from mebert.onnx.export import Source, write_export
from mebert.onnx.runner import OnnxClassifier
from mebert.onnx.single_graph import NAME, SingleGraph
from mebert.onnx.up_to_date import MANIFEST
from mebert.policies.stored_thresholds import load_policy, stored_point
from mebert.report.layout import print_pairs
from mebert.storage.atomic import atomic_files
from mebert.storage.json_values import read_json
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import export_folder, find_model


def run_export(settings: export) -> None:
    """Export a model."""
    folder = find_model(str(settings.model)).saved
    out = export_folder(folder) if settings.out is None else Path(settings.out)
    if out is None:
        raise UserError(
            f"out is missing: {settings.model} is a Hub id; give the folder to write, such as --out exported"
        )
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise UserError(f"--out {out} is a folder with other files; give a new one, such as --out {out}/exported")
    before = _files(out)
    model, spec = MultiExitModel.from_pretrained(folder), ModelSpec.read(folder)
    policy, tokenizer = load_policy(folder, model), load_tokenizer(folder)
    if policy is None:
        raise UserError(f"{settings.model} was saved without a policy; calibrate it first, with --use NAME")
    if spec.columns is None:  # of an earlier mebert, whose run may say them
        with suppress(UserError):
            spec.columns = columns_of(run_data(folder, model))
    longest = min(model.adapter.max_length, int(min(tokenizer.model_max_length, 2**31)))
    source = Source(folder, model, policy, tokenizer, spec, trained_length(folder, model), longest)
    int8 = settings.precision == "int8"
    with atomic_files(out) as unfinished:
        fused = write_export(source, unfinished, int8, settings.single_graph)
        classify = OnnxClassifier(unfinished)
        check_tokens(source, classify)
        pad = classify.manifest["pad_token_id"]
        ways: list[Way] = [classify, *([SingleGraph(unfinished / NAME, pad)] if settings.single_graph else [])]
        found, *single = compare(source, ways, rows_of(folder, source, settings.samples))
        for one in (found, *single):
            _refuse(one, settings.precision, settings.max_drop)
    for left in before - _files(out):
        (out / left).unlink(missing_ok=True)
    size = decimal(sum(file.stat().st_size for file in out.iterdir()))
    layers = "fused layers" if fused else "layers as PyTorch exports them, not fused: slower"
    pairs = {
        "folder": f"{out} ({size}, {settings.precision}, {len(model.exit_layers)} exits, {layers})"
        + "; it took the place of an older export" * bool(before),
        "operating point": str(stored_point(policy, spec.chosen_by, spec.expected)),
        "as PyTorch": f"on {found.rows:,} of {found.name}: logits within {found.difference:.1g}, {_exits(found)}",
    }
    if found.metric is not None:
        pairs[found.metric] = _values(found)
    for one in single:
        own = "" if one.metric is None or not int8 else f"; {one.metric} {_values(one)}"
        pairs[NAME] = f"a text a call, in any language: logits within {one.difference:.1g}, {_exits(one)}{own}"
    print_pairs("Exported:", pairs)
    words = '--pair "A text." "Another."' if spec.num_texts == 2 else '"A text."'
    commands = {
        "classify": f"python -m mebert predict {out} {'pairs' if spec.num_texts == 2 else 'texts'}.csv",
        "without PyTorch": f"python {out}/runner.py {out} {words}",
        "serve": f"python -m mebert serve {out}",
    }
    print_pairs("Next:", commands)


def _files(out: Path) -> set[str]:
    """The files of an export, by its manifest; none where there is no export."""
    if not (out / MANIFEST).is_file():
        return set()
    manifest = read_json(out / MANIFEST)
    return {MANIFEST, *manifest.get("files", ()), *([NAME] if "single_graph" in manifest else ())}


def _values(found: Compared) -> str:
    (own, new), (deep, deep_new) = found.values
    return f"{new:.4f} (PyTorch {own:.4f}); full depth {deep_new:.4f} (PyTorch {deep:.4f})"


def _exits(found: Compared) -> str:
    return "the same exits" if not found.other_exits else f"{found.other_exits} other exits"


def _refuse(found: Compared, precision: str, max_drop: float) -> None:
    if precision == "float32" and (found.difference > TOLERANCE or found.other_exits):
        raise UserError(
            f"export: ONNX Runtime's answers are not PyTorch's (logits differ by {found.difference:.1g}, "
            f"{found.other_exits} of {found.rows} exits): nothing was written; this is a fault of mebert, report it"
        )
    if found.drop > max_drop + 1e-9:
        raise UserError(
            f"export: in {precision} {found.metric} is {found.drop:.4f} lower on {found.rows:,} of {found.name}, more "
            f"than max_drop {max_drop:g}: nothing was written; take --precision float32, or allow more by --max_drop"
        )
