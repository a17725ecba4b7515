"""An exported folder with the interface of `EarlyExitClassifier`: the runner of `mebert.onnx`, and mebert's errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mebert.choices import ProblemType
from mebert.errors import UserError
from mebert.onnx.up_to_date import MANIFEST, export_command, what_changed
from mebert.storage.hub_folder import ONNX, check_no_revision, hub_folder
from mebert.storage.json_values import check_values, faults_in
from mebert.storage.model_spec import ModelSpec
from mebert.storage.operating_point import OperatingPoint, asked_by
from mebert.storage.run_folder import export_folder, find_model
from mebert.storage.spec_parts import Expected
from mebert.storage.thresholds import as_threshold, check_exits, numbers_of

if TYPE_CHECKING:
    from mebert.onnx.runner import OnnxClassifier

EXTRA = "the backend onnx needs onnxruntime, which is not installed: pip install 'mebert[onnx]'"


def is_exported(path: str | Path) -> bool:
    """Whether a folder was written by `python -m mebert export`."""
    return (Path(path) / MANIFEST).is_file()


def exported_folder(path: str | Path, revision: str | None = None, token: str | bool | None = None) -> Path:
    """The export itself: the folder, its folder `onnx`, that of its run, or that of a Hub id, which is fetched.

    A run's is opened as it is; where its model has been changed since, a warning names the command to write it again.

    Args:
        path: An export, a run, a folder, a Hub id or `<id>@<revision>`.
        revision: Of a Hub id: a branch, tag or commit.
        token: Of the account that may read it; None: that of `hf auth login` or `HF_TOKEN`.

    Raises:
        UserError: There is no export.
    """
    folder = Path(path)
    if not folder.exists() and not str(path).startswith((".", "/", "~")) and str(path).count("/") == 1:
        return hub_folder(str(path), f"{ONNX}/{MANIFEST}", [f"{ONNX}/*"], revision=revision, token=token) / ONNX
    check_no_revision(folder, revision)
    for found in (folder, folder / ONNX):
        if is_exported(found):
            return found
    model = find_model(folder).model if folder.is_dir() else None
    own = None if model is None else export_folder(model)
    if model is None or own is None or not is_exported(own):
        raise UserError(f"{folder} is no exported model and holds none; write one: python -m mebert export {folder}")
    if changed := what_changed(own, model):
        again = f"write it again: {export_command(own, model)}"
        warnings.warn(f"backend onnx: {own} has {changed} than the model has now; {again}", stacklevel=3)
    return own


def refuse_export(path: str | Path) -> None:
    """Refuse an export where a model in PyTorch is asked for, by a UserError."""
    if is_exported(path):
        raise UserError(
            f"backend torch: {path} is an export, which runs on ONNX Runtime alone: take backend onnx, or give the "
            "run that it was exported from"
        )


@contextmanager
def runner_errors() -> Iterator[None]:
    """Turn the runner's errors into those of mebert."""
    try:
        from mebert.onnx.runner import ExportError
    except ImportError as error:
        raise UserError(EXTRA) from error
    try:
        yield
    except ExportError as error:
        raise UserError(str(error)) from error
    except TypeError as error:
        if "Input" not in str(error):
            raise
        raise UserError("a text holds half a character (a lone surrogate); take it out") from error


class OnnxBackend:
    """An exported model ready to classify texts, as `EarlyExitClassifier.from_pretrained(folder, backend="onnx")`.

    Args:
        folder: As `python -m mebert export` wrote it, or a run that holds one, or with that in its folder `onnx`; or
            the Hub id of such a one.
        threads: Of all models of the process; None: one a core.
        revision: Of a Hub id: a branch, tag or commit.
        token: Of the account that may read it; None: that of `hf auth login` or `HF_TOKEN`.

    Raises:
        UserError: It is no export, it is damaged, or onnxruntime is not installed.
    """

    backend: Final = "onnx"

    def __init__(
        self,
        folder: str | Path,
        threads: int | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> None:
        folder = exported_folder(folder, revision, token)
        with faults_in(str(folder), "export the model anew"), runner_errors():
            from mebert.onnx.runner import OnnxClassifier

            self.runner: OnnxClassifier = OnnxClassifier(folder, threads)
            self._read(self.runner.manifest)

    def _read(self, manifest: Mapping[str, Any]) -> None:
        """Take what the manifest says; what does not fit the schema of a saved model is refused."""
        own = {name: manifest[name] for name in ("problem_type", "stride", "num_texts", "max_length", "exit_layers")}
        own |= {"label_names": manifest["labels"], "num_labels": len(manifest["labels"])}
        policy = manifest["policy"]
        name = policy["name"]
        points = {"operating_points": {name: manifest["operating_points"]}, "max_drops": {name: manifest["max_drops"]}}
        others = {"columns": manifest.get("columns"), "label_separator": manifest.get("label_separator")}
        spec = check_values(ModelSpec, own | points | others, MANIFEST)
        shape, exits = self.runner._graphs[-1][0].get_outputs()[1].shape or [], len(spec.exit_layers)
        known = [size for size in shape[1:2] if isinstance(size, int)]
        if exits != len(manifest["exits"]) or known not in ([], [spec.num_labels]):
            raise UserError(f"{MANIFEST} has {exits} exit_layers and {spec.num_labels} labels, the graphs have others")
        for limit in (policy["threshold"], *spec.operating_points[name].values(), *spec.max_drops[name].values()):
            check_exits(as_threshold(limit), exits, f"{MANIFEST}: threshold")
            if not all(number >= 0 for number in numbers_of(as_threshold(limit))):
                raise UserError(f"{MANIFEST}: threshold must be at least 0, got {limit}")
        self.exit_layers = tuple(spec.exit_layers)
        self.max_length, self.num_texts = manifest["max_length"], spec.num_texts
        self.columns, self.label_separator = spec.columns, spec.label_separator
        self.precision = manifest["precision"]
        self.problem_type: ProblemType = manifest["problem_type"]
        self.multi_label = self.problem_type == "multi_label_classification"
        self.operating_points, self.max_drops = spec.operating_points, spec.max_drops
        self.point_of()

    @property
    def label_names(self) -> list[str]:
        return list(self.runner.manifest["labels"])

    @property
    def operating_point(self) -> OperatingPoint:
        """The point at which texts leave unless a call asks for another."""
        return self.point_of()

    def point_of(
        self,
        policy: str | None = None,
        threshold: float | Sequence[float] | None = None,
        speedup: float | None = None,
        max_drop: float | None = None,
    ) -> OperatingPoint:
        """The point at which these settings of a call let texts leave."""
        own = self.runner.manifest["policy"]
        if policy not in (None, own["name"]):
            raise UserError(f"policy {policy!r} is not in this export, which has {own['name']!r}; leave it out")
        with runner_errors():
            chosen = as_threshold(self.runner.threshold_of(threshold, speedup, max_drop))
        stored = [Expected(**one) for one in self.runner.manifest.get("expected", ())]
        if own["expected"] is not None:  # all that an export of an earlier mebert has
            stored.append(Expected(threshold=as_threshold(own["threshold"]), **own["expected"]))
        expected = next((one for one in stored if as_threshold(one.threshold) == chosen), None)
        return OperatingPoint(own["name"], chosen, asked_by(threshold, speedup, max_drop) or own["chosen_by"], expected)

    def __call__(self, texts: Any, *, policy: str | None = None, engine: str = "auto", **settings: Any) -> Any:
        """Classify, as `EarlyExitClassifier`; settings are those of `mebert.onnx.runner.OnnxClassifier`."""
        self.point_of(policy)
        if engine not in ("auto", "shrink"):
            raise UserError(f"engine {engine!r} is not for the backend onnx, which has shrink alone")
        with runner_errors():
            found = self.runner(texts, **settings)
        return _with_errors(found) if isinstance(found, Iterator) else found


def _with_errors(found: Iterator[Any]) -> Iterator[Any]:
    with runner_errors():
        yield from found
