"""The model card's section "How to use it": each way, as lines to paste."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mebert.sharing.examples import in_json, in_python
from mebert.sharing.facts import CardFacts


def usage(facts: CardFacts) -> Iterator[str]:
    """Its paragraphs."""
    repo, pair = facts.repo, facts.spec.num_texts == 2
    text, before = in_python(facts.example, pair)
    calls = {one.call: f"{one.layers:.2f}x by layers in the test" for one in facts.points}
    calls |= {one.call: f"{one.expected.speedup:.2f}x by layers on validation data" for one in facts.untested_points}
    calls |= {"speedup=1": "full depth"} if "speedup=1" in calls else {}
    named = sorted((call for call in calls if call.startswith("speedup=")), key=lambda call: float(call[8:]))[:4]
    lines = [f"classify({text}, {call})  # {calls[call]}" for call in named]
    default = f"classify({text})  # label, probabilities, exit"
    yield "With mebert (from a clone of it: `pip install -e .`):"
    yield _code(
        "python",
        "from mebert import EarlyExitClassifier",
        "",
        f'classify = EarlyExitClassifier.from_pretrained("{repo}")',
        *before,
        default,
        *lines,
    )
    yield f"or from a shell: `python -m mebert predict {repo} texts.csv --out answers.csv`."
    if facts.onnx:
        yield (
            f"With ONNX Runtime ({facts.onnx}; `backend` fetches the folder `onnx` alone), or without PyTorch and "
            "mebert by the runner in it (onnxruntime, tokenizers and numpy):"
        )
        opened = f'EarlyExitClassifier.from_pretrained("{repo}", backend="onnx")'
        yield _code("python", f"classify = {opened}", *before, f"classify({text})")
        given = [json.dumps(one) for one in facts.example or ("...", "...")]
        words = f"--pair {given[0]} {given[1]}" if pair else given[0]
        yield _code(
            "sh",
            f'hf download {repo} --include "onnx/*" --local-dir model',
            f"python model/onnx/runner.py model/onnx {words}",
        )
    else:
        yield (
            "With ONNX Runtime: there is no export in this repository; "
            f"`python -m mebert export {repo} --out exported` writes one."
        )
    body = in_json(facts.example, pair)
    yield "Over HTTP (`pip install -e '.[serve]'`):"
    yield _code(
        "sh",
        f"python -m mebert serve {repo} --port 8000{'  # --backend onnx: without PyTorch' * bool(facts.onnx)}",
        f"curl http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{body}'",
    )
    yield from _pipeline(facts, pair)


def _pipeline(facts: CardFacts, pair: bool) -> Iterator[str]:
    if facts.pipeline_fault is not None:
        yield (
            f"`transformers.pipeline` cannot run this model: {facts.pipeline_fault}. It would put a random classifier "
            "on the encoder."
        )
        return
    spec = facts.spec
    cut = ", truncation=True" + (f", max_length={spec.max_length}" if spec.max_length else "")
    several = ", top_k=None" if spec.problem_type == "multi_label_classification" else ""
    text, before = in_python(facts.example, pair)
    if pair:
        both = [json.dumps(one) for one in facts.example] or ["pair[0]", "pair[1]"]
        text = f'{{"text": {both[0]}, "text_pair": {both[1]}}}'
    windows = " Longer texts are cut there, and read in windows by mebert." if spec.stride is not None else ""
    yield f"With transformers alone, at full depth (no text leaves early):{windows}"
    yield _code(
        "python",
        "from transformers import pipeline",
        "",
        f'classify = pipeline("text-classification", model="{facts.repo}"{several})',
        *before,
        f"classify({text}{cut})",
    )


def _code(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])
