"""Random kills: trainings are killed at random moments, resumed until they are done, and compared with whole ones.

    python tests/resume/kills.py --kills 50

One process imports everything and forks for each run, so that a run takes a second. Nothing is simulated: every kill is
a SIGKILL, in the midst of a step, of writing a file (part of its bytes are on the disk by then), just before or after a
file is renamed, in a validation, while rows are scored for a curriculum, or at any time at all.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
EPOCHS = 3
AGAIN = 0.3  # how often a resumed run is killed, too
WAIT = 300.0  # seconds after which a run has hung

Plan = Callable[[], None]


# ---- plans: called in the forked process before it starts ------------------------------------------------------------


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_call(number: int, act: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function in whose place `act` is called the n-th time."""
    calls = itertools.count(1)
    return lambda *args: (act if next(calls) == number else function)(*args)


def kill_while_writing(number: int, share: float) -> None:
    """With a share of the bytes of the n-th checkpoint on the disk."""
    import torch

    save = torch.save

    def partly(content: Any, file: Any) -> None:
        written = io.BytesIO()
        save(content, written)
        file.write(written.getvalue()[: int(share * len(written.getvalue()))])
        file.flush()
        kill()

    torch.save = at_call(number, partly, save)


def kill_at_renaming(number: int, after: bool) -> None:
    """Just before or after a file takes another's place for the n-th time."""
    replace = os.replace

    def last_act(source: Any, target: Any) -> None:
        if after:
            replace(source, target)
        kill()

    os.replace = at_call(number, last_act, replace)  # type: ignore[assignment]


def kill_while_scoring(number: int) -> None:
    """When the n-th batch of rows has been scored for a curriculum."""
    from mebert.curriculum import cross_review, datamodule

    count = at_call(number, kill, lambda: None)
    for place in (datamodule, cross_review):

        def counted(*args: Any, original: Callable[..., Any] = place.score_split) -> Any:
            *others, tick = args
            return original(*others, lambda *given: (count(), tick(*given)))

        place.score_split = counted  # type: ignore[assignment]


def draw_plan(draw: random.Random, recipe: str, seconds: float) -> tuple[str, Plan, float | None]:
    """A kind of kill at a random moment: its name, what the process does, seconds until it dies."""
    from resume.recipes import EPOCH

    epoch, number, share = draw.randrange(EPOCHS), draw.randint(1, 12), draw.random()
    batch, validation = draw.randrange(EPOCH), draw.randrange(3)
    # PULL_AT is read by resume.plug at the start of a batch.
    plans: dict[str, Plan] = {
        "in a step": lambda: os.environ.update(PULL_AT=json.dumps([epoch, batch])),
        "in a validation": lambda: os.environ.update(PULL_AT=json.dumps(["val", epoch, validation])),
        "renaming": lambda: kill_at_renaming(number, share < 0.5),
        "writing": lambda: kill_while_writing(number, share),
        "any time": lambda: None,
        "scoring": lambda: kill_while_scoring(number),
        "between the stages": lambda: os.environ.update(PULL_AT="[1, 0]"),
    }
    kinds = ["in a step", "in a validation", "renaming", *["writing", "any time"] * 2]
    if recipe in ("scores by inference", "cross-review"):
        kinds += ["scoring"] * 2
    if recipe in ("FastBERTModule", "DeeBERTModule"):
        kinds += ["between the stages"] * 2
    kind = draw.choice(kinds)
    return kind, plans[kind], draw.uniform(0, seconds) if kind == "any time" else None


# ---- in the process that forks ---------------------------------------------------------------------------------------


def fit(recipe: str, name: str, attempt: int, plan: Plan = lambda: None, delay: float | None = None) -> int:
    """Train in a process of its own, from the last checkpoint if there is one; `delay` is its life in seconds.

    Returns its exit status; minus the signal's number where one has ended it.
    """
    from resume.recipes import settings_of
    from runs import run, write_config

    words = ["fit", "--config", str(write_config(Path(), settings_of(recipe, EPOCHS))), "--experiment", name]
    if attempt and any(Path("runs", name).glob("*/checkpoints/last.ckpt")):
        words += ["--ckpt_path", "last"]
    notes = Path(f"{name}_{attempt}.jsonl")
    process = os.fork()
    if process == 0:
        status = 1
        try:
            output = os.open(notes.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ["NOTES"] = str(notes)
            plan()
            status = run(*words)
        finally:
            os._exit(status)
    begin = first = time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        now = time.monotonic()
        if ended:
            return os.waitstatus_to_exitcode(status)
        if not notes.exists():
            first = now
        if now - begin > WAIT or (delay is not None and now - first > delay):
            os.kill(process, signal.SIGKILL)
        time.sleep(0.003)


def steps(notes: Path) -> list[list[int]]:
    """[epoch, batch] of every step that a run has done."""
    lines = map(json.loads, notes.read_text().splitlines() if notes.exists() else ())
    return [line[1:3] for line in lines if line[0] == "done"]


def chain(draw: random.Random, name: str, most: int, whole: dict[str, float]) -> tuple[Counter[str], int, list[str]]:
    """One training, killed once or more (no oftener than `most`), resumed until it is done, and compared.

    Returns how often it was killed by kind, the largest number of steps done twice, and what is wrong.
    `whole` has the seconds of each recipe that was trained without a kill, and gets those of this one.
    """
    from resume.recipes import RECIPES
    from resume.same import differences, end_of, validations

    recipe = draw.choice(list(RECIPES))
    reference = f"whole_{list(RECIPES).index(recipe)}"
    if recipe not in whole:
        begin = time.monotonic()
        assert fit(recipe, reference, 0) == 0, f"{recipe} does not run"
        whole[recipe] = time.monotonic() - begin
    killed, twice, faults = Counter[str](), 0, []
    done: list[list[int]] = []
    for attempt in range(most + 1):
        kind, plan, delay = draw_plan(draw, recipe, whole[recipe])
        if attempt == most or (attempt > 0 and draw.random() > AGAIN):
            kind, plan, delay = "", lambda: None, None
        # What other trainings have cached of cross-review would spare this one its teachers.
        shutil.rmtree("cache", ignore_errors=True)
        status = fit(recipe, name, attempt, plan, delay)
        now = steps(Path(f"{name}_{attempt}.jsonl"))
        if attempt and now:  # where it went on, against where it was killed
            twice = max(twice, len({tuple(step) for step in done if step >= now[0]}))
        done += now
        if status != -signal.SIGKILL:
            if status:
                last_lines = Path(f"{name}_{attempt}.log").read_text(errors="replace").splitlines()[-3:]
                return killed, twice, [f"{recipe} ended with {status}: {' | '.join(last_lines)}"]
            break
        killed[kind] += 1
    for read in (end_of, validations):
        places = differences(read(Path("runs", reference)), read(Path("runs", name)))
        faults += [f"{recipe}, {name}: {place} differs" for place in places]
    faults += [f"{path} was left" for path in Path("runs", name).glob("*/checkpoints/.*.unfinished")]
    if not faults:
        shutil.rmtree(Path("runs", name))
    return killed, twice, faults


def main() -> int:
    """Kill, resume, compare, report; returns 0 if all is as it should be."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0, help="recipes and moments (but for those by the clock)")
    given = options.parse_args()
    import datasets
    import torch
    from resume.recipes import INTERVAL

    import mebert.cli.lightning_command  # noqa: F401  # before the forks

    torch.set_num_threads(1)
    draw, begin = random.Random(given.seed), time.monotonic()
    whole: dict[str, float] = {}
    killed, most, faults, trainings = Counter[str](), 0, [], 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        datasets.config.HF_DATASETS_CACHE = Path(folder, "cache")
        while killed.total() < given.kills:
            found, twice, wrong = chain(draw, f"cut_{trainings}", given.kills - killed.total(), whole)
            killed, most, faults, trainings = killed + found, max(most, twice), faults + wrong, trainings + 1
    print(f"{killed.total()} kills in {trainings} trainings of {len(whole)} recipes, seed {given.seed}")
    for kind, count in sorted(killed.items()):
        print(f"  {kind:<20} {count:>3}")
    print(f"steps done twice after a kill: at most {most}; a checkpoint every {INTERVAL} steps")
    print(f"faults (an end that is not that of the whole training, to the last bit): {len(faults)}")
    print(f"{time.monotonic() - begin:.0f} s")
    for fault in faults:
        print(f"FAULT {fault}")
    return 1 if faults or most > INTERVAL else 0


if __name__ == "__main__":
    sys.exit(main())
