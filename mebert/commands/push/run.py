"""The command: collect what is uploaded in a folder of its own, write the card, upload all of it as one commit."""

from __future__ import annotations

import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mebert.commands.push.command import push
from mebert.commands.push.published import copy_export, copy_model_files, remove_places, without_paths
from mebert.commands.push.training import training_of
from mebert.data.tokenizers import load_tokenizer
from mebert.errors import UserError
from mebert.models.families import quiet_loading
from mebert.models.multi_exit import MultiExitModel
from mebert.onnx.backend import is_exported
from mebert.onnx.up_to_date import MANIFEST, export_command, what_changed
from mebert.policies.base import ExitPolicy
from mebert.policies.stored_thresholds import load_policy
from mebert.report.layout import print_pairs
from mebert.report.plots import metric_title
from mebert.sharing.card import CARD, model_card
from mebert.sharing.examples import example_texts
from mebert.sharing.facts import CardFacts
from mebert.sharing.upload import Target, upload
from mebert.storage.atomic import atomic_files, write_text
from mebert.storage.evaluation_file import read_evaluation
from mebert.storage.hub_folder import ONNX
from mebert.storage.json_values import read_json
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import NamedModel, export_folder, find_model
from mebert.storage.stored_weights import trained_folder

CURVE = "curve.png"


def run_push(settings: push) -> None:
    """Push a model."""
    name, repo = str(settings.model), str(settings.repo)
    named = find_model(name)
    if named.on_hub:
        raise UserError(f"model {name} is on the Hub; push takes a run or a model folder of this machine")
    if named.model is None and named.run is not None:
        raise UserError(
            f"{name} is not finished: it has no folder model, as fit writes at its end; go on with it by python -m "
            f"mebert fit --config {named.run.config} --ckpt_path {named.run.checkpoint('last')}"
        )
    folder = Path(trained_folder(named))
    with nullcontext(settings.out) if settings.out is not None else TemporaryDirectory() as made:
        out = Path(made)
        if settings.out is not None and out.is_dir() and any(out.iterdir()):
            raise UserError(f"out {out} is not empty; give a new folder")
        with quiet_loading(), atomic_files(out) as unfinished:
            facts = _collect(folder, named, settings, unfinished)
        unlike = facts.pipeline_fault
        pipeline = "opens it at full depth" if unlike is None else f"cannot open it: {unlike} (docs/sharing.md)"
        pairs = {"card": _card_words(facts), "transformers.pipeline": pipeline}
        if facts.onnx is not None:
            pairs["onnx"] = f"the export, {facts.onnx}, in the folder {ONNX}"
        if settings.license is None:
            pairs["licence"] = "not given: --license NAME, or fill it in at the head of the card"
        if settings.out is not None:
            print_pairs(f"Written to {out}, not uploaded:", pairs)
            print_pairs("Next:", {"look at the card": out / CARD, "upload": _upload_command(settings)})
            return
        target = Target(repo, settings.private, settings.update)
        address = upload(out, target, f"Model of mebert {facts.spec.mebert_version}")
    print_pairs(f"Pushed to {address}{' (private)' if settings.private else ''}:", pairs)
    print_pairs("Next:", {"use it anywhere": f"python -m mebert predict {repo} texts.csv"})


def _upload_command(settings: push) -> str:
    options = [f"--{name} {shlex.quote(text)}" for name in ("license", "onnx") if (text := getattr(settings, name))]
    options += [f"--{name}" for name in ("private", "update") if getattr(settings, name)]
    return " ".join(["python -m mebert push", shlex.quote(str(settings.model)), str(settings.repo), *options])


def _card_words(facts: CardFacts) -> str:
    if facts.untested is not None:
        return facts.untested
    own = [one for one in facts.untested_points if not one.call.startswith("max_drop")]
    since = f"; {len(own)} chosen since have figures of validation rows alone" if own else ""
    return f"{len(facts.points)} operating points of the test{since}"


def _collect(folder: Path, named: NamedModel, settings: push, out: Path) -> CardFacts:
    """Write what is uploaded into an empty folder."""
    model, spec = MultiExitModel.from_pretrained(folder), ModelSpec.read(folder)
    policy = load_policy(folder, model)
    onnx = _export_beside(folder, named.name, settings.onnx)
    model.save_parts(out)
    copy_model_files(folder, out)
    spec = without_paths(spec)
    spec.write(out)
    if onnx is not None:
        copy_export(onnx, folder, out / ONNX)
    facts = _facts(named, settings, model, policy, spec, onnx)
    if facts.curve and named.run is not None:
        shutil.copyfile(named.run.path / CURVE, out / CURVE)
    for path in out.rglob("*.json"):
        remove_places(path)
    write_text(model_card(facts), out / CARD)
    return facts


def _facts(
    named: NamedModel,
    settings: push,
    model: MultiExitModel,
    policy: ExitPolicy | None,
    spec: ModelSpec,
    onnx: Path | None,
) -> CardFacts:
    test, untested = _test_of(named)
    expected = [] if policy is None else spec.expected.get(policy.name, [])
    metric = test["metric"] if test is not None else expected[0].metric if expected else ""
    return CardFacts(
        repo=str(settings.repo),
        spec=spec,
        encoder=model.encoder_in_words(),
        licence=settings.license,
        policy=None if policy is None else (policy.name, policy.threshold),
        training=None if named.run is None else training_of(named.run.config),
        evaluation=test,
        untested=untested,
        metric=metric_title(str(metric)),
        pipeline_fault=model.hugging_face_fault(),
        onnx=None if onnx is None else str(read_json(onnx / MANIFEST)["precision"]),
        example=example_texts(load_tokenizer(named.saved), spec.num_texts),
        curve=test is not None and named.run is not None and (named.run.path / CURVE).is_file(),
    )


def _test_of(named: NamedModel) -> tuple[dict[str, Any] | None, str | None]:
    """The test of the model, or why there is none."""
    if named.run is None:
        return None, "The model was pushed without the run that trained it."
    if not named.run.evaluation.is_file():
        return None, "The run that trained it has not been tested."
    found = read_evaluation(named.run.evaluation)
    if (tested := Path(str(found.get("checkpoint") or "best.ckpt")).name) != "best.ckpt":
        return None, f"The run's last test was of another checkpoint ({tested})."
    return found, None


def _export_beside(folder: Path, name: str, given: str | None) -> Path | None:
    """The folder of an export of this model as it is now; None where there is none."""
    own = export_folder(folder)
    places = (own, folder / ONNX) if given is None else (Path(given),)
    found = next((place for place in places if place is not None and is_exported(place)), None)
    if found is None:
        if given is not None:
            raise UserError(
                f"onnx {given} is no exported model; write one: python -m mebert export {name}, and leave out --onnx"
            )
        return None
    if changed := what_changed(found, folder):
        out = "" if own is not None and found.resolve() == own.resolve() else f" --out {found}"
        instead = "" if given is not None else f"; or remove {found} and push without it"
        raise UserError(
            f"onnx {found} has {changed} than the model has now: export it again, {export_command(found, folder)}{out}"
            f"{instead}"
        )
    return found
