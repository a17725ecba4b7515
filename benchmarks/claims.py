"""What the three papers claim, and what was measured of it here: one table, from the results of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import curriculum
import curriculum_report
import geep
import geep_report
import minilm_report
import study_report
from page import difference, table
from recipe import RESULTS
from recipe_headline import interval_words
from recipe_paired import OWN_RULE, RECOMMENDED, Result, against

SPEEDS = (2.0, 3.0)
Rules = tuple[str, str]
CLAIMS = Path(__file__).with_name("claims.md")  # the claims and what we say of them, a line each


def apart(results: Sequence[Result], first: str, second: str, rules: Rules, speeds: Sequence[float] = SPEEDS) -> str:
    """One arm against another (or another rule of its own) over all tasks and seeds that have both, at speed-ups."""
    cells = {(result["task"], result["seed"], result["arm"]): result for result in results}
    pairs = [
        (result, other)
        for (task, seed, arm), result in cells.items()
        if arm == first and (other := cells.get((task, seed, second))) is not None
    ]
    if not pairs:
        return "not measured"
    words = [f"{interval_words(against(pairs, speed, rules))} at {speed:g}x" for speed in speeds]
    tasks = len({one["task"] for one, _ in pairs})
    return f"{', '.join(words)}; {tasks} task{'s' * (tasks > 1)}"


def small_de3(a: tuple[str, str], b: tuple[str, str]) -> str:
    """Two (variant, rule) of the DE3-BERT part, by area."""
    runs = minilm_report.load(RESULTS / "minilm")
    tasks = [task for task in minilm_report.NAMES if (task, "de3") in runs]
    return f"{difference(minilm_report.areas_apart(runs, tasks, a, b), 2)}, area"


def small_fitted() -> str:
    """EDR with prototypes fitted afterwards against entropy in the same run, by area, over the study's recipes."""
    gains = study_report.Study().policy_gains(list(study_report.LEARNT), without="de3")["edr"]
    return f"{difference([gain / 100 for gain in gains])}, area"


def small_geep(a: str, b: str) -> str:
    """Two trainings of the GEEP part, by area."""
    return f"{difference(geep_report.Comparison(geep.load()).paired(geep_report.area, a, b))}, area"


def small_curriculum() -> tuple[str, str]:
    """Layer-wise against vanilla distillation, and with against without the curriculum, by area."""
    results = curriculum.load()
    found = curriculum_report.Comparison(results, curriculum.choose(results))
    layers = found.paired(curriculum_report.area, ("layerwise", None), ("vanilla", None))
    kinds = curriculum_report.KINDS
    chosen = found.chosen["curriculum"]
    order = [d for kind in kinds for d in found.paired(curriculum_report.area, (kind, chosen), (kind, None))]
    return f"{difference(layers)}, area", f"{difference(order)}, area"


def table_of(results: Sequence[Result], deep: Sequence[Result]) -> str:
    """The table: a row a claim; `results` are of six layers and more rows, `deep` of twelve layers."""
    layers, order = small_curriculum()
    speeds = (*SPEEDS, 4.0)
    both: Rules = ("edr", "entropy")
    entropy: Rules = ("entropy", "entropy")
    measured = {
        "edr": (small_de3(("de3", "edr"), ("de3", "entropy")),
                apart(results, "de3", "de3", both), apart(deep, "de3", "de3", both, speeds)),
        "fitted": (small_fitted(), apart(results, "joint", "joint", both), apart(deep, "joint", "joint", both, speeds)),
        "dar": (small_de3(("de3", "edr"), ("no_dar", "edr")),
                apart(results, "de3", "joint", entropy), apart(deep, "de3", "joint", entropy, speeds)),
        "one_step": (small_geep("geep", "fastbert"), "not measured",
                     apart(deep, "geep", "joint", entropy, speeds)),
        "layerwise": (layers, apart(results, "chain_heads_10", RECOMMENDED, (OWN_RULE, OWN_RULE)),
                      apart(deep, "curriculum", "joint", entropy, speeds)),
        "order": (order, apart(results, "self_curriculum", RECOMMENDED, (OWN_RULE, OWN_RULE)), "not measured alone"),
    }  # fmt: skip
    rows = []
    for line in CLAIMS.read_text(encoding="utf-8").splitlines():
        name, paper, claim, verdict = line.split(" | ")
        rows.append([paper, claim, *measured.get(name, ("", "", "")), verdict])
    header = ["paper", "claim", "six layers, small samples", "six layers, more rows", "twelve layers", "verdict"]
    return table(header, rows)
