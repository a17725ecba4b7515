"""What the distance to fitted prototypes adds to `Stacked`: the rule with it and without, on recorded passes.

    python benchmarks/recipe_prototypes.py     # seconds a cell; writes benchmarks/results/recipe_prototypes.json

Reads the cells of the two studies that `recipe.py run` has left on this machine; nothing is trained. What was found of
other cells stays.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipe import RESULTS, ROOT, cells
from recipe_paired import OWN_RULE, RECOMMENDED
from recipe_rules import right_at

from mebert.metrics.record_files import load_record
from mebert.models import MultiExitModel
from mebert.policies import Stacked
from mebert.storage.run_folder import RunFolder

STUDIES = ("recipe_full", "twelve_layers")
OUT = RESULTS / "recipe_prototypes.json"


def compare(cell: Any, run: Path) -> dict[str, Any]:
    """One cell: accuracies on the test rows at the study's speed-ups, fitted on its validation rows."""
    model = MultiExitModel.from_pretrained(str(cell.folder / "model"))
    test, validation = (load_record(path)[0] for path in (RunFolder(run).outputs, run / "validation.safetensors"))
    found: dict[str, Any] = {"study": cell.folder.parents[2].name, "task": cell.task, "arm": cell.recipe}
    found["seed"] = cell.seed
    for name in ("with", "without"):
        if name == "without":
            model.prototypes = None
        policy = Stacked().bind(model).fitted(validation).bind(model)
        record = replace(test, scores=dict(test.scores))
        policy.set_scores(record)
        speeds = cell.config["curve"]["points"]
        rows = {speed: right_at(record, OWN_RULE, model.exit_layers, speed) for speed in speeds}
        found[name] = {f"{speed:g}": round(float(right.mean()), 5) for speed, right in rows.items()}
    return found


def known() -> dict[tuple[Any, ...], dict[str, Any]]:
    """What has been found before, by study, task, arm and seed."""
    found = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else []
    return {tuple(one[name] for name in ("study", "task", "arm", "seed")): one for one in found}


if __name__ == "__main__":
    results = known()
    for study in STUDIES:
        for each in cells(ROOT / "configs" / "study" / f"{study}.yaml", [f"recipe={RECOMMENDED},joint"]):
            runs = sorted(path.parent for path in each.folder.glob("version_*/validation.safetensors"))
            if runs and (each.folder / "model").exists():
                results[study, each.task, each.recipe, each.seed] = found = compare(each, runs[-1])
                print(found, flush=True)
    OUT.write_text(json.dumps(list(results.values())) + "\n", encoding="utf-8")
