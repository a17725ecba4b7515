"""Documents that cannot reach the best k any more stop early: what does it save, and what does it cost?

    python benchmarks/ranking.py run --seeds 1 --records FOLDER     # trains on WikiQA; keeps both passes and 1_model
    python benchmarks/reranking.py quality FOLDER                   # the rule on the recorded test pass of every seed
    python benchmarks/reranking.py seconds FOLDER/1_model           # `EarlyExitReranker.rank`, timed
    python benchmarks/reranking.py report                           # the tables

`quality` replays the rule on the scores of every exit, with bounds from the recorded validation pass. `seconds` ranks
test questions with their own candidates (`own`), and some with answers to other questions added, up to 100 (`hundred`).
Every setting ranks a question before the next question comes, in an order that changes, so that other load on the
machine meets all alike. A document that is not returned counts as not found in MAP and MRR, at full depth, too.
Data and weights come from the Hub.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import run_once, threads
from torch import Tensor

from mebert import EarlyExitReranker, TextDataModule
from mebert.inference import run_shrink
from mebert.inference.engine import Finished
from mebert.metrics.curve import ExitRecord
from mebert.metrics.ranking import ranking_scores
from mebert.metrics.record_files import load_record
from mebert.policies.temperature import fit_temperatures
from mebert.policies.top_k import COVERAGES, TopK, final_score_bounds

RESULTS = Path(__file__).resolve().parent / "results" / "reranking"
TOP_K = (1, 3, 10)
HUNDRED = 100


def precision_and_rank(found: list[int], right: list[bool]) -> tuple[float, float]:
    """Average precision and reciprocal rank of a returned list; what is not returned is not found."""
    hits = [rank for rank, place in enumerate(found, 1) if right[place]]
    return sum(n / rank for n, rank in enumerate(hits, 1)) / sum(right), 1 / hits[0] if hits else 0.0


@dataclass
class _State:
    """Which rows of a record are still running."""

    hidden: Tensor


class _Recorded:
    """A recorded pass in the place of a model: its "token ids" are row numbers."""

    def __init__(self, scores: Tensor) -> None:
        self.scores, self.num_exits = scores, len(scores)

    def start(self, input_ids: Tensor, attention_mask: Tensor) -> _State:
        return _State(input_ids[:, 0])

    def keep(self, state: _State, places: Tensor) -> _State:
        return _State(state.hidden[places])

    def step(self, state: _State, exit_index: int) -> tuple[_State, Tensor, None]:
        return state, self.scores[exit_index, state.hidden].unsqueeze(-1), None


def replayed(validation: ExitRecord, test: ExitRecord, layers: list[int]) -> dict[str, Any]:
    """A row for each k and coverage: the rule on the questions of a recorded test pass."""
    temperatures = fit_temperatures(validation.logits, validation.labels)
    bounds = {**final_score_bounds(validation.logits, temperatures.tolist()), 1.0: ()}
    model: Any = _Recorded(ranking_scores(test.logits) / temperatures.unsqueeze(1))
    depth, queries = torch.tensor(layers), test.queries
    assert queries is not None
    questions = [(queries == number).nonzero().flatten() for number in range(int(queries.max()) + 1)]
    rows = []
    for k in TOP_K:
        for coverage in (*COVERAGES, 1.0):
            sums, run = np.zeros(3), 0
            for own in questions:
                rule = TopK(k, bounds[coverage], lambda logits, _: logits[:, 0])
                done = run_shrink(model, rule, {"input_ids": own.unsqueeze(1), "attention_mask": own.unsqueeze(1)})
                last = torch.where(done.exits == len(layers) - 1, done.logits[:, 0], -torch.inf)
                best = last.argsort(descending=True, stable=True)[:k].tolist()
                full = model.scores[-1, own].argsort(descending=True, stable=True)[:k].tolist()
                sums += (*precision_and_rank(best, (test.labels[own] > 0).tolist()), best == full)
                run += int(depth[done.exits].sum())
            means = dict(zip(("map", "mrr", "same_list"), (sums / len(questions)).tolist(), strict=True))
            speedup = layers[-1] * sum(map(len, questions)) / run
            rows.append({"top_k": k, "coverage": coverage, **means, "speedup_layers": speedup})
    more = {str(k): sum(len(own) > k for own in questions) for k in TOP_K}
    return {"questions": len(questions), "more_than_k": more, "rows": rows}


class Question(NamedTuple):
    """A question and its candidates."""

    text: str
    documents: list[str]


class Watched(EarlyExitReranker):
    """Keeps where the documents of the last call left."""

    def run(self, *args: Any, **settings: Any) -> Finished:
        self.last = super().run(*args, **settings)
        return self.last


def test_questions(model: str, max_length: int) -> list[Question]:
    """The test questions with a right and a wrong answer."""
    data = TextDataModule(task="wikiqa", tokenizer=model, max_length=max_length)
    data.setup("test")
    queries = np.asarray(data.split("test").queries)
    texts, answers = (data.texts("test", range(len(queries)))[name] for name in data.text_columns)
    rows = [np.flatnonzero(queries == number) for number in range(int(queries.max()) + 1)]
    return [Question(str(texts[own[0]]), [str(answers[row]) for row in own]) for own in rows]


def with_others(questions: list[Question], every: list[Question], generator: np.random.Generator) -> list[Question]:
    """The same questions, each with answers to others of `every`, 100 candidates in all."""
    pool = sorted({document for question in every for document in question.documents})
    found = []
    for text, documents in questions:
        others = [pool[place] for place in generator.permutation(len(pool)) if pool[place] not in documents]
        found.append(Question(text, documents + others[: HUNDRED - len(documents)]))
    return found


def timed(reranker: Watched, questions: list[Question], coverage: float) -> dict[str, Any]:
    """Seconds and layers at full depth and for each k, and how many lists are those of the full depth."""
    layers, settings = torch.tensor(reranker.model.exit_layers), (None, *TOP_K)
    sums: dict[int | None, Any] = {k: np.zeros(4) for k in settings}
    reranker.rank(*questions[0])  # the first call is slow
    for number, question in enumerate(questions):
        lists, turn = {}, number % len(settings)
        for k in settings[turn:] + settings[:turn]:
            wall, cpu = time.perf_counter(), time.process_time()
            found = reranker.rank(*question, k, coverage=coverage)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            lists[k] = [one["corpus_id"] for one in found]
            sums[k][:3] += (wall, cpu, int(layers[reranker.last.exits.cpu()].sum()))
        for k in settings:
            sums[k][3] += lists[k] == lists[None][:k]
    rows = []
    for k, (wall, cpu, run, same) in sums.items():
        full = sums[None]
        speeds = {"speedup_layers": full[2] / run, "speedup_cpu": full[1] / cpu, "speedup_wall": full[0] / wall}
        rows.append({"top_k": k, "seconds": wall, "cpu_seconds": cpu, **speeds, "same_list": same / len(questions)})
    return {"questions": len(questions), "documents": sum(len(q.documents) for q in questions), "rows": rows}


def quality(folder: Path) -> None:
    """The recorded passes of every seed."""
    for path in sorted(folder.glob("*_test.safetensors")):
        seed = path.name.removesuffix("_test.safetensors")
        validation, (test, about) = load_record(folder / f"{seed}_validation.safetensors")[0], load_record(path)
        result = replayed(validation, test, about["exit_layers"])
        run_once(RESULTS / f"{seed}_quality.json", lambda result=result: result)  # type: ignore[misc]


def seconds(model: str, count: int, coverage: float) -> dict[str, Any]:
    """Both kinds of candidates with one model, for questions drawn at random."""
    reranker = Watched.from_pretrained(model)
    questions, generator = test_questions(model, reranker.classifier.max_length), np.random.default_rng(0)
    chosen = [questions[number] for number in generator.permutation(len(questions))[:count]]
    kinds = {"own": chosen, "hundred": with_others(chosen[: max(1, count // 5)], questions, generator)}
    about = {"threads": torch.get_num_threads(), "precision": reranker.classifier.precision, "coverage": coverage}
    return {**about, **{name: timed(reranker, some, coverage) for name, some in kinds.items()}}


def report() -> None:
    """Print the tables of every run."""
    for path in sorted(RESULTS.glob("*_quality.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        print(f"{path.stem}: {run['questions']} test questions; with more than k candidates: {run['more_than_k']}")
        print("top_k coverage    MAP    MRR  same list  layers")
        for row in run["rows"]:
            values = f"{row['map']:.4f} {row['mrr']:.4f}  {row['same_list']:9.3f}  {row['speedup_layers']:5.2f}x"
            print(f"{row['top_k']:5d} {row['coverage']:8g} {values}")
    for path in sorted(RESULTS.glob("*_seconds.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        print(f"{path.stem}: {run['precision']}, {run['threads']} thread(s), coverage {run['coverage']:g}")
        for kind in ("own", "hundred"):
            print(f"{kind}: {run[kind]['questions']} questions, {run[kind]['documents']} documents")
            print("top_k  seconds  CPU s  layers    CPU   wall  same list")
            for row in run[kind]["rows"]:
                speeds = " ".join(f"{row[f'speedup_{by}']:5.2f}x" for by in ("layers", "cpu", "wall"))
                spent = f"{row['seconds']:7.1f} {row['cpu_seconds']:6.1f}"
                print(f"{row['top_k'] or 'all':>5}  {spent}  {speeds}  {row['same_list']:9.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["quality", "seconds", "report"])
    parser.add_argument("path", nargs="?", type=Path, help="what ranking.py wrote: the folder, or a model in it")
    parser.add_argument(
        "--questions", type=int, default=237, help="test questions to time; a fifth with 100 candidates"
    )
    parser.add_argument("--coverage", type=float, default=0.95)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.command == "report":
        report()
    elif given.path is None:
        parser.error(f"{given.command} needs a path")
    elif given.command == "quality":
        quality(given.path)
    else:
        threads(given.threads)
        name = given.path.name.removesuffix("_model")
        run_once(RESULTS / f"{name}_seconds.json", lambda: seconds(str(given.path), given.questions, given.coverage))
