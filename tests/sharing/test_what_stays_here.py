"""What `push` must not publish: paths and names of files of this machine, and files that are no part of the model."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from sharing.writable_hub import writable_hub
from tiny import save_encoder

from mebert.commands.push.published import copy_export
from mebert.errors import UserError
from mebert.models import MultiExitModel
from mebert.modules.base import MultiExitModule
from mebert.storage.model_spec import ModelSpec


def test_an_encoder_is_named_if_it_was_no_folder_when_it_was_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_encoder(Path("acme/bert"))
    with writable_hub() as hub:
        hub.repos["org/encoder"] = [{path.name: path.read_bytes() for path in Path("acme/bert").iterdir()}]
        for name, known in (("org/encoder", "org/encoder"), ("acme/bert", None)):
            MultiExitModule(name).model.save_pretrained("saved")
            assert ModelSpec.read("saved").base_model == known
            opened = MultiExitModel.from_pretrained("saved")
            opened.save_pretrained("again")
            assert ModelSpec.read("again").base_model == known
            shutil.rmtree("saved")


def test_of_an_export_the_files_that_its_manifest_lists_are_copied(tmp_path):
    export = tmp_path / "exported"
    (export / "logs").mkdir(parents=True)
    digest = hashlib.sha256(b"graph").hexdigest()
    for name in ("exit_1.onnx", "model.onnx", "runner.py", "customers.csv", "logs/x.txt", "more.onnx"):
        (export / name).write_bytes(b"graph")
    listed = {"files": {"exit_1.onnx": digest}, "single_graph": {"file": "model.onnx", "sha256": digest}}
    (export / "manifest.json").write_text(json.dumps(listed | {"precision": "int8"}))
    copy_export(export, tmp_path / "model", tmp_path / "onnx")
    copied = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert copied == {"exit_1.onnx", "model.onnx", "runner.py", "manifest.json"}
    for name in ("../secret.txt", "exit_1.onnx"):
        (export / name).write_bytes(b"other")
        (export / "manifest.json").write_text(json.dumps({"files": {name: digest}}))
        with pytest.raises(UserError, match=rf"onnx .*exported: {name} is missing or damaged: export the model again"):
            copy_export(export, tmp_path / "model", tmp_path / Path(name).stem)
