"""`benchmarks/deploy_size.py`: sizes of the installed packages, the table in docs/deploy.md, and its times."""

import json
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
deploy_size = pytest.importorskip("deploy_size")


def test_sizes_are_those_of_the_packages_and_of_what_they_require():
    found = deploy_size.sizes()["packages"]
    assert {"onnxruntime", "tokenizers", "numpy", "protobuf", "huggingface-hub"} <= set(found["runner"])
    assert not {"torch", "transformers", "mebert"} & set(found["runner"])
    assert {"torch", "lightning", "jsonargparse", "typeshed-client", "docstring-parser"} <= set(found["PyTorch"])
    there = sum(Path(file.locate()).stat().st_size for file in distribution("numpy").files if file.suffix != ".pyc")
    assert found["runner"]["numpy"] == pytest.approx(there / 1e6, rel=0.02)


def test_the_page_has_the_stored_figures():
    stored = json.loads(deploy_size.RESULTS.read_text(encoding="utf-8"))
    assert deploy_size.as_text(stored) in deploy_size.PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_each_way_is_timed_to_its_answer(in_trained_run):
    found = deploy_size.times("runs/tiny/version_0", "anna likes dogs", rounds=1)
    assert 0 < found["int8"]["cpu"] < found["PyTorch"]["cpu"]
    assert 0 < found["float32"]["wall"] < found["PyTorch"]["wall"]
    assert found["float32"]["megabytes"] > 0
