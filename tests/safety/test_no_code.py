"""Read the sources: nothing in the package or the benchmarks opens a file in a way that could run it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("mebert/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
MODULES = {"joblib", "dill", "cloudpickle", "shelve", "marshal", "runpy", "jsonpickle", "code", "codeop"}
NAMES = {"eval", "exec", "compile", "__import__", "system", "popen", "unsafe_load", "full_load"}
TRUST = "trust_remote_code"
SWITCHES = (TRUST, "allow_pickle", "shell")
RUNS = ("fit", "validate", "test", "predict")
LOADERS = ("load", "load_all")
# `compile` of PyTorch and of regular expressions, and `exec` of nothing: by the object they belong to.
HARMLESS = {"re.compile", "torch.compile"}
# Names come from the package's own tables there, never from a file or the command line.
IMPORTS_BY_NAME = {"mebert/__init__.py", "mebert/data/__init__.py", "mebert/cli/commands.py"}


def dotted(node: ast.expr) -> str:
    """`torch.load` of a call's function; what is no name becomes `?`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def is_constant(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def says(call: ast.Call, name: str, value: bool) -> bool:
    """Whether a call has this keyword with this constant."""
    return any(word.arg == name and is_constant(word.value, value) for word in call.keywords)


def faults(source: str, file: str = "x.py") -> Iterator[str]:
    """What is dangerous in a source, one line each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            bad = {module.partition(".")[0] for module in modules} & MODULES
            if bad or (isinstance(node, ast.ImportFrom) and "pickle" in modules):
                yield f"{node.lineno}: imports {bad or names}"
        if isinstance(node, ast.Attribute) and dotted(node).startswith("pickle.") and node.attr != "UnpicklingError":
            yield f"{node.lineno}: {dotted(node)}"
        if isinstance(node, ast.keyword) and node.arg in SWITCHES and not is_constant(node.value, False):
            yield f"{node.value.lineno}: {node.arg} is not False"
        if isinstance(node, ast.Call):
            yield from (f"{node.lineno}: {fault}" for fault in call_faults(node, file))


def call_faults(call: ast.Call, file: str) -> Iterator[str]:
    name = dotted(call.func)
    owner, _, last = name.rpartition(".")
    if last in NAMES and name not in HARMLESS and not (last in ("compile", "eval") and owner):
        yield f"calls {name}"
    if last == "import_module" and file not in IMPORTS_BY_NAME:
        yield "imports a module by a name"
    opens = name == "torch.load" or last in ("load_from_checkpoint", "load_state_dict_from_url")
    resumes = last in RUNS and any(word.arg == "ckpt_path" for word in call.keywords)
    if (opens or resumes) and not says(call, "weights_only", True):
        yield f"{name} without weights_only=True"
    if name in ("np.load", "numpy.load") and not says(call, "allow_pickle", False):
        yield f"{name} without allow_pickle=False"
    if owner == "yaml" and last in LOADERS:
        yield f"{name}: use yaml.safe_load"
    if owner.startswith("Auto") and last in ("from_pretrained", "from_config") and not says(call, TRUST, False):
        yield f"{name} without {TRUST}=False: it would ask, and somebody may say yes"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_here_opens_a_file_so_that_it_could_run(path):
    file = path.relative_to(ROOT).as_posix()
    assert not list(faults(path.read_text(encoding="utf-8"), file))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "from pickle import loads",
        "import joblib",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=asked)",
        "L.LightningModule.load_from_checkpoint(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "__import__(name)",
        "importlib.import_module(name)",
        "os.system(line)",
        "subprocess.run(line, shell=True)",
        "AutoModel.from_pretrained(name)",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=True)",
        "datasets.load_dataset(name, trust_remote_code=asked)",
        "trainer.fit(module, ckpt_path=path)",
        "torch.hub.load_state_dict_from_url(url)",
    ],
)
def test_it_sees_what_it_looks_for(source):
    assert list(faults(source))


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "re.compile('x')",
        "torch.load(path, weights_only=True, mmap=True)",
        "except_ = pickle.UnpicklingError",
        "yaml.safe_load(text)",
        "subprocess.run(['ls'])",
        "trainer.fit(module, datamodule=data)",
    ],
)
def test_and_nothing_else(source):
    assert not list(faults(source))
