"""The precision that is picked where none is given."""

import pytest
import torch
from runs import experiment, run, write_config

from mebert.runtime.precision import pick_precision


def test_cpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert pick_precision("cpu") == ("bf16-mixed", "this CPU has avx512_bf16")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert pick_precision("cpu")[0] == "32-true"


def test_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some GPU")
    for fast, expected in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, fast=fast: fast)
        assert pick_precision("auto")[0] == expected
        assert pick_precision("gpu")[0] == expected


def test_unknown_hardware_gets_float32():
    assert pick_precision("tpu")[0] == "32-true"


@pytest.mark.parametrize("recipe", ["MultiExitModule", "DeeBERTModule"])
def test_gradients_are_clipped_in_mixed_precision(here, recipe):
    """Lightning refuses it for a fused optimiser."""
    config = str(write_config(here, experiment(recipe)))
    words = ["--trainer.precision=bf16-mixed", "--trainer.gradient_clip_val=1", "--test_after_fit=false"]
    assert run("fit", "--config", config, *words, "--curve.wall_samples=0") == 0
