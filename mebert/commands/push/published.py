"""What of a model folder and of an export is published: the files that they consist of, without names of other files.

A folder may hold more, such as rows of customers or logs, and JSON files may name it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

from mebert.data.tasks import TASKS
from mebert.errors import UserError
from mebert.onnx.up_to_date import MANIFEST, export_command
from mebert.storage.atomic import write_text
from mebert.storage.json_values import read_json
from mebert.storage.model_spec import ModelSpec
from mebert.storage.spec_parts import Expected

OWN_ROWS = "rows of the author's own"
RUNNER = "runner.py"
MODEL_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "bpe.codes"),
    *("tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model"),
    *("exit_predictor.json", "exit_predictor.safetensors"),
)
"""What a model folder has beside weights, `config.json` and `exits.json`."""
PLACES = ("_name_or_path", "name_or_path", "tokenizer_file", "special_tokens_map_file", "vocab_file", "auto_map")
"""Keys of configuration files in which older versions of transformers kept paths."""
SPLIT = re.compile(r"(.+), ((?:train|val|test)(?:_(?:mis)?matched)?)")


def copy_model_files(folder: Path, out: Path) -> None:
    """Copy the tokenizer and the predictors of the exit."""
    for name in MODEL_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)


def copy_export(export: Path, folder: Path, out: Path) -> None:
    """Copy the files that an export's manifest lists, the manifest and the runner into a new folder.

    Args:
        export: A folder of `export`.
        folder: The model's.
        out: Made here.

    Raises:
        UserError: A file is missing, or another one than the manifest lists.
    """
    manifest = read_json(export / MANIFEST)
    single = manifest.get("single_graph")
    listed = dict(manifest.get("files") or {}) | ({} if single is None else {single["file"]: single["sha256"]})
    out.mkdir()
    for name, digest in {MANIFEST: None, RUNNER: None, **listed}.items():
        file = export / name
        whole = Path(name).name == name and file.is_file()
        if not whole or digest not in (None, hashlib.sha256(file.read_bytes()).hexdigest()):
            again = export_command(export, folder)
            raise UserError(f"onnx {export}: {name} is missing or damaged: export the model again, {again}")
        shutil.copyfile(file, out / name)


def without_paths(spec: ModelSpec) -> ModelSpec:
    """A spec whose thresholds name no file and no run here: those of rows on which they were calibrated."""
    expected = {
        name: [one.model_copy(update={"data": public_words(one.data)}) for one in points]
        for name, points in spec.expected.items()
    }
    return spec.with_values(expected=expected) if expected else spec


def public_words(data: str) -> str:
    """Which rows those of `Expected.data` were: words of mebert's own, never the name of a file.

    >>> [public_words(data) for data in ("the run, test", "rte, val", "customers.csv.gz")]
    ['the test split', 'rte, val', "rows of the author's own"]
    """
    usual = str(Expected.model_fields["data"].default)
    found = SPLIT.fullmatch(data)
    if data == usual or data == "the run, val":
        return usual
    if found is not None and found[1] == "the run":
        return f"the {found[2]} split"
    return data if found is not None and found[1] in TASKS else OWN_ROWS


def remove_places(path: Path) -> None:
    """Remove from a JSON file what is a path of this machine, or the name of a file here."""
    content = read_json(path)
    kept = {name: value for name, value in content.items() if name not in PLACES}
    if path.name == MANIFEST:
        for one in ((content.get("policy") or {}).get("expected"), *(content.get("expected") or [])):
            if one is not None:
                one["data"] = public_words(str(one.get("data", "")))
    if kept != content or path.name == MANIFEST:
        write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", path)
