"""What `push` must not publish: paths and names of files of this machine, and files that are no part of the model."""

import shutil
from pathlib import Path

from sharing.writable_hub import writable_hub
from tiny import save_encoder

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
