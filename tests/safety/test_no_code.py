"""Read the sources for what ruff's rules (S, in pyproject.toml) do not see: files are opened so that none can run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("mebert/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
REQUIRED = {
    "torch.load": ("weights_only", True),
    "load_from_checkpoint": ("weights_only", True),
    "load_state_dict_from_url": ("weights_only", True),
    "np.load": ("allow_pickle", False),
}
"""Keywords without which a loader could run what a file holds."""
RUNS = ("fit", "validate", "test", "predict")
MODULES = {"joblib", "dill", "cloudpickle", "shelve", "marshal", "runpy", "jsonpickle", "code", "codeop"}
# Names come from tables of the package there, never from a file or the command line.
IMPORTS_BY_NAME = {"mebert/__init__.py", "mebert/storage/aliases.py", "mebert/cli/commands.py"}


def faults(source: str, file: str = "x.py") -> Iterator[str]:
    """What is dangerous in a source, one line each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: imports {name}" for name in modules if name.partition(".")[0] in MODULES)
        switch = isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle")
        if switch and getattr(node.value, "value", None) is not False:
            yield f"{node.value.lineno}: {node.arg} is not False"
        if isinstance(node, ast.Call):
            owner, _, last = ast.unparse(node.func).rpartition(".")
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            needed = REQUIRED.get(f"{owner}.{last}", REQUIRED.get(last))
            if last in RUNS and "ckpt_path" in given:
                needed = ("weights_only", True)
            if owner.startswith("Auto") and last in ("from_pretrained", "from_config"):
                needed = ("trust_remote_code", False)  # without it the library asks, and somebody may say yes
            if needed is not None and given.get(needed[0]) is not needed[1]:
                yield f"{node.lineno}: {owner}.{last} without {needed[0]}={needed[1]}"
            if last == "import_module" and file not in IMPORTS_BY_NAME:
                yield f"{node.lineno}: imports a module by a name"


def test_nothing_here_opens_a_file_so_that_it_could_run():
    found = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
    assert len(found) > 200
    assert not [(file, fault) for file, source in found.items() for fault in faults(source, file)]


@pytest.mark.parametrize(
    "source",
    [
        "import joblib",
        "torch.load(path)",
        "torch.load(path, weights_only=asked)",
        "L.LightningModule.load_from_checkpoint(path)",
        "np.load(path, allow_pickle=True)",
        "importlib.import_module(name)",
        "AutoModel.from_pretrained(name)",
        "datasets.load_dataset(name, trust_remote_code=asked)",
        "trainer.fit(module, ckpt_path=path)",
    ],
)
def test_it_sees_what_it_looks_for(source):
    assert list(faults(source))
    assert not list(faults("torch.load(path, weights_only=True, mmap=True); trainer.fit(module, datamodule=data)"))
