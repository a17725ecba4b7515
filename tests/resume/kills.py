"""Random kills: trainings are killed at random moments, resumed until they are done, and compared with whole ones.

    python tests/resume/kills.py --kills 50

One process imports everything and forks for each run, so that a run takes a second. Nothing is simulated: every kill is
a SIGKILL, in the midst of a step, of writing a file (part of its bytes are on the disk by then), just before or after a
file is renamed, in a validation, while rows are scored for a curriculum, or at any time at all.
"""

from __future__ import annotations

import argparse
import io
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
from types import SimpleNamespace
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
EPOCHS = 3
AGAIN = 0.3  # how often a resumed run is killed, too
WAIT = 300.0  # seconds after which a run has hung


# ---- in the forked process -------------------------------------------------------------------------------------------


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_while_writing(number: int, share: float) -> None:
    """With a share of the bytes of the n-th checkpoint on the disk."""
    from mebert.storage import atomic

    save, seen = atomic.torch.save, Counter[str]()

    def partly(content: Any, file: Any) -> None:
        seen["saved"] += 1
        if seen["saved"] < number:
            save(content, file)
            return
        written = io.BytesIO()
        save(content, written)
        file.write(written.getvalue()[: int(share * len(written.getvalue()))])
        file.flush()
        kill()

    atomic.torch = SimpleNamespace(save=partly)  # type: ignore[assignment]


def kill_at_renaming(number: int, after: bool) -> None:
    """Just before or after a file takes another's place for the n-th time."""
    replace, seen = os.replace, Counter[str]()

    def last_act(source: Any, target: Any) -> None:
        seen["renamed"] += 1
        if seen["renamed"] < number:
            replace(source, target)
            return
        if after:
            replace(source, target)
        kill()

    os.replace = last_act  # type: ignore[assignment]


def kill_while_scoring(number: int) -> None:
    """When the n-th batch of rows has been scored for a curriculum."""
    from mebert.curriculum import cross_review, datamodule

    seen = Counter[str]()
    for place in (datamodule, cross_review):

        def counted(*args: Any, original: Callable[..., Any] = place.score_split) -> Any:
            *others, tick = args

            def last_tick(*given: Any) -> None:
                seen["scored"] += 1
                if seen["scored"] == number:
                    kill()
                tick(*given)

            return original(*others, last_tick)

        place.score_split = counted  # type: ignore[assignment]


def kill_at(place: list[Any]) -> None:
    """At the start of a batch, of training or of validation."""
    os.environ["PULL_AT"] = json.dumps(place)


# ---- in the process that forks ---------------------------------------------------------------------------------------


def forked(args: list[str], notes: Path, plan: Callable[[], None], delay: float | None = None) -> int:
    """Run a command in a process of its own.

    Args:
        args: The command's.
        notes: Where its steps are noted, and beside it what it says.
        plan: Called in it before it starts.
        delay: Kill it so many seconds after its first step, if it lives.

    Returns:
        Its exit status; minus the signal's number where one has ended it.
    """
    process = os.fork()
    if process == 0:
        status = 1
        try:
            said = os.open(notes.with_suffix(".log"), os.O_WRONLY | os.O_CREAT)
            os.dup2(said, 1)
            os.dup2(said, 2)
            os.environ["NOTES"] = str(notes)
            plan()
            from runs import run

            status = run(*args)
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


def steps(notes: Path) -> list[tuple[int, int]]:
    """(epoch, batch) of every step that a run has done; of one that did none, where it began."""
    lines = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    return [(line[1], line[2]) for line in lines if line[0] == "done"]


def plan_of(draw: random.Random, recipe: str, seconds: float) -> tuple[str, Callable[[], None], float | None]:
    """A kind of kill with its moment, drawn at random: its name, what the process does, seconds until it dies."""
    from resume.recipes import EPOCH

    kinds = ["in a step", "in a validation", "renaming", *["writing"] * 2, *["any time"] * 2]
    if recipe in ("scores by inference", "cross-review"):
        kinds += ["scoring"] * 2
    if recipe in ("FastBERTModule", "DeeBERTModule"):
        kinds += ["between the stages"] * 2
    kind, epoch = draw.choice(kinds), draw.randrange(EPOCHS)
    if kind == "in a step":
        batch = draw.randrange(EPOCH)
        return kind, lambda: kill_at([epoch, batch]), None
    if kind == "between the stages":
        return kind, lambda: kill_at([1, 0]), None
    if kind == "in a validation":
        batch = draw.randrange(3)
        return kind, lambda: kill_at(["val", epoch, batch]), None
    number, share, after = draw.randint(1, 12), draw.random(), draw.random() < 0.5
    if kind == "writing":
        return kind, lambda: kill_while_writing(number, share), None
    if kind == "renaming":
        return kind, lambda: kill_at_renaming(number, after), None
    if kind == "scoring":
        return kind, lambda: kill_while_scoring(number), None
    return kind, lambda: None, draw.uniform(0, seconds)


class Kills:
    """Trains in a folder, and counts.

    Args:
        seed: Determines recipes and moments (those by the clock but for the clock).
    """

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.lost: list[int] = []
        self.faults: list[str] = []
        self.whole: dict[str, float] = {}
        self.trainings = 0

    def chain(self, most: int) -> None:
        """One training, killed once or more (no oftener than `most`), resumed until it is done, and compared."""
        from resume.recipes import RECIPES
        from resume.same import differences, end_of, validations

        recipe = self.draw.choice(list(RECIPES))
        number = list(RECIPES).index(recipe)
        whole = Path(f"runs/whole_{number}")
        if recipe not in self.whole:
            begin = time.monotonic()
            assert self._fit(recipe, whole.name, Path(f"whole_{number}.jsonl")) == 0, f"{recipe} does not run"
            self.whole[recipe] = time.monotonic() - begin
        name = f"cut_{self.trainings}"
        self.trainings += 1
        done: list[tuple[int, int]] = []
        for attempt in range(most + 1):
            kind, plan, delay = plan_of(self.draw, recipe, self.whole[recipe])
            if attempt == most or (attempt > 0 and self.draw.random() > AGAIN):
                kind, plan, delay = "", lambda: None, None
            # What other trainings have cached of cross-review would spare this one its teachers.
            shutil.rmtree("cache", ignore_errors=True)
            notes = Path(f"{name}_{attempt}.jsonl")
            status = self._fit(recipe, name, notes, plan, delay, resume=attempt > 0)
            now = steps(notes)
            if attempt and now:  # where it went on, against where it was killed
                self.lost.append(sum(step >= now[0] for step in set(done)))
            done += now
            if status != -signal.SIGKILL:
                if status:
                    said = notes.with_suffix(".log").read_text(errors="replace").splitlines()[-3:]
                    self.faults.append(f"{recipe} ended with {status}: {' | '.join(said)}")
                break
            self.counts[kind] += 1
        found = differences(end_of(whole), end_of(Path("runs", name)))
        found += differences(validations(whole), validations(Path("runs", name)))
        self.faults += [f"{recipe}, {name}: {place} differs" for place in found]
        left = list(Path("runs", name).glob("*/checkpoints/.*.unfinished"))
        self.counts["unfinished files left"] += len(left)
        if not found:
            shutil.rmtree(Path("runs", name))

    def _fit(
        self,
        recipe: str,
        name: str,
        notes: Path,
        plan: Callable[[], None] = lambda: None,
        delay: float | None = None,
        resume: bool = False,
    ) -> int:
        from resume.recipes import settings_of
        from runs import write_config

        config = write_config(Path(), settings_of(recipe, EPOCHS))
        words = ["fit", "--config", str(config), "--experiment", name]
        if resume and any(Path("runs", name).glob("*/checkpoints/last.ckpt")):
            words += ["--ckpt_path", "last"]
        return forked(words, notes, plan, delay)


def main() -> int:
    """Kill, resume, compare, report; returns 0 if all is as it should be."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    import datasets
    import torch
    from resume.recipes import INTERVAL

    import mebert.cli.lightning  # noqa: F401  # before the forks

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        datasets.config.HF_DATASETS_CACHE = Path(folder, "cache")
        kills, begin = Kills(given.seed), time.monotonic()
        killed = 0
        while killed < given.kills:
            kills.chain(given.kills - killed)
            killed = sum(n for kind, n in kills.counts.items() if not kind.startswith("unfinished"))
        os.chdir("/")
    left = kills.counts.pop("unfinished files left")
    print(f"{killed} kills in {kills.trainings} trainings of {len(kills.whole)} recipes, seed {given.seed}")
    for kind, count in sorted(kills.counts.items()):
        print(f"  {kind:<20} {count:>3}")
    most = max(kills.lost, default=0)
    mean = sum(kills.lost) / max(len(kills.lost), 1)
    print(f"steps done twice: at most {most}, {mean:.1f} on average; a checkpoint every {INTERVAL} steps")
    print(f"half-written files left in the end: {left}")
    print(f"trainings that did not end as the whole one, to the last bit: {len(kills.faults)}")
    print(f"{time.monotonic() - begin:.0f} s")
    for fault in kills.faults:
        print(f"FAULT {fault}")
    return 1 if kills.faults or most > INTERVAL else 0


if __name__ == "__main__":
    sys.exit(main())
