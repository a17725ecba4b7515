"""Documents that cannot reach the best k any more stop early: what does it save, and what does it cost?

    python benchmarks/ranking.py run --seeds 1 --records FOLDER   # trains on WikiQA, keeps the model in FOLDER/1_model
    python benchmarks/reranking.py run FOLDER/1_model             # `EarlyExitReranker.rank` on WikiQA's test questions
    python benchmarks/reranking.py report                         # the tables

Each question is ranked with its own candidates (`own`), and some of them with answers to other questions added, up to
100 (`hundred`). Every setting ranks a question before the next question comes, in an order that changes, so that other
load on the machine meets all alike. A document that is not returned counts as not found in MAP and MRR, at full depth,
too. Bounds come from the validation questions of the training. Data and weights come from the Hub.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import run_once, threads

from mebert import EarlyExitReranker, TextDataModule
from mebert.data.rows import rankable

RESULTS = Path(__file__).resolve().parent / "results" / "reranking"
TOP_K = (1, 3, 10)
COVERAGES = (0.9, 0.95, 0.99, 1.0)
HUNDRED = 100


class Question(NamedTuple):
    """A question, its candidates, and which of them are right."""

    text: str
    documents: list[str]
    right: list[bool]


def test_questions(model: str, max_length: int) -> list[Question]:
    """The test questions with a right and a wrong answer."""
    data = TextDataModule(task="wikiqa", tokenizer=model, max_length=max_length)
    data.setup("test")
    split = data.split("test")
    assert split.labels is not None
    assert split.queries is not None
    labels, queries = np.asarray(split.labels), np.asarray(split.queries)
    columns = data.texts("test", range(len(labels)))
    texts, answers = (columns[name] for name in data.text_columns)
    assert (rankable(queries[queries >= 0], labels[queries >= 0] > 0) >= 0).all()
    found = []
    for number in range(int(queries.max()) + 1):
        rows = np.flatnonzero(queries == number)
        documents = [str(answers[row]) for row in rows]
        found.append(Question(str(texts[rows[0]]), documents, [bool(labels[row] > 0) for row in rows]))
    return found


def with_others(questions: list[Question], count: int, seed: int = 0) -> list[Question]:
    """Questions drawn by the seed, each with answers to others, which count as wrong, up to 100 candidates."""
    generator = np.random.default_rng(seed)
    found = []
    for number in generator.permutation(len(questions))[:count]:
        own = questions[number]
        pool = sorted({d for q in questions for d in q.documents} - set(own.documents))
        more = [pool[i] for i in generator.permutation(len(pool))[: HUNDRED - len(own.documents)]]
        found.append(Question(own.text, own.documents + more, own.right + [False] * len(more)))
    return found


def quality(found: list[int], right: list[bool]) -> tuple[float, float]:
    """Average precision and reciprocal rank of a returned list; what is not returned is not found."""
    hits = [rank for rank, place in enumerate(found, 1) if right[place]]
    return sum(n / rank for n, rank in enumerate(hits, 1)) / sum(right), 1 / hits[0] if hits else 0.0


def compare(reranker: EarlyExitReranker, questions: list[Question]) -> list[dict[str, Any]]:
    """One row for each k and coverage."""
    settings = [(k, coverage) for k in TOP_K for coverage in COVERAGES]
    layers = torch.tensor(reranker.model.exit_layers)
    sums = {one: np.zeros(6) for one in settings}
    reranker.rank(questions[0].text, questions[0].documents)  # the first call is slow
    for number, question in enumerate(questions):
        lists, turn = {}, number % len(settings)
        for k, coverage in settings[turn:] + settings[:turn]:
            asked = question.text, question.documents, k
            wall, cpu = time.perf_counter(), time.process_time()
            found = reranker.rank(*asked, coverage=coverage)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            lists[k, coverage] = [one["corpus_id"] for one in found]
            run = int(layers[reranker.run(*asked, coverage=coverage).exits.cpu()].sum())
            sums[k, coverage][:5] += (*quality(lists[k, coverage], question.right), *spent, run)
        for k, coverage in settings:
            sums[k, coverage][5] += lists[k, coverage] == lists[k, 1.0]
    rows = []
    for (k, coverage), (ap, rr, wall, cpu, depth, same) in sums.items():
        count, full = len(questions), sums[k, 1.0]
        more = sum(len(q.documents) > k for q in questions)
        means = {"map": ap / count, "mrr": rr / count, "same_list": same / count}
        speeds = {"speedup_layers": full[4] / depth, "speedup_wall": full[2] / wall, "speedup_cpu": full[3] / cpu}
        own = {"top_k": k, "coverage": coverage, "questions": count, "more_than_k": more}
        rows.append({**own, **means, "seconds": wall, "cpu_seconds": cpu, **speeds})
    return rows


def one_run(model: str, hundred: int) -> dict[str, Any]:
    """Both kinds of candidates with one model."""
    reranker = EarlyExitReranker.from_pretrained(model, precision="float32")
    questions = test_questions(model, reranker.classifier.max_length)
    kinds = {"own": questions, "hundred": with_others(questions, hundred)}
    sizes = {name: float(np.mean([len(q.documents) for q in some])) for name, some in kinds.items()}
    tables = {name: compare(reranker, some) for name, some in kinds.items()}
    bounds = {f"{share:g}": value for share, value in reranker.bounds.items()}
    return {"threads": torch.get_num_threads(), "candidates": sizes, "bounds": bounds, "tables": tables}


def report() -> None:
    """Print the tables of every run."""
    for path in sorted(RESULTS.glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        for kind, rows in run["tables"].items():
            size = run["candidates"][kind]
            print(f"{path.stem}, {kind}: {rows[0]['questions']} questions of {size:.1f} candidates in the mean")
            print("top_k coverage    MAP    MRR  same list  layers    CPU   wall  seconds")
            for row in rows:
                speeds = " ".join(f"{row[f'speedup_{by}']:5.2f}x" for by in ("layers", "cpu", "wall"))
                values = f"{row['map']:.4f} {row['mrr']:.4f}  {row['same_list']:9.3f}"
                print(f"{row['top_k']:5d} {row['coverage']:8g} {values}  {speeds} {row['seconds']:8.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("model", nargs="?", help="a model folder that ranking.py wrote; its name is that of the result")
    parser.add_argument("--hundred", type=int, default=50, help="questions that are ranked with 100 candidates")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.command == "report":
        report()
    elif given.model is None:
        parser.error("run needs the model's folder")
    else:
        threads(given.threads)
        run_once(RESULTS / f"{Path(given.model).name}.json", lambda: one_run(given.model, given.hundred))
