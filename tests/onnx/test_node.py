"""The single graph in Node: the same answers as in Python, and the example of docs/deploy.md (`make test-node`)."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from mebert.cli.main import main
from mebert.onnx.runner import OnnxClassifier
from mebert.onnx.single_graph import NAME, SingleGraph

TESTS = Path(__file__).resolve().parents[1]
MODULES = TESTS / "node" / "node_modules"
PAGE = TESTS.parent / "docs" / "deploy.md"
PAIRS = [("anna likes dogs", "anna likes animals"), ("bob likes dogs", "anna likes cats"), ("", "anna")]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODULES.is_dir(), reason="onnxruntime-node is not installed: make test-node"),
]


def node(*words):
    return subprocess.run(["node", *map(str, words)], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_node_answers_as_python_does(precision, in_trained_run):
    words = ["--precision", precision, "--max_drop", "0.9", "--samples", "20"]
    assert main(["export", "runs/tiny/version_0", "--out", "exported", "--single_graph", *words]) == 0
    folder = Path("exported")
    classify = OnnxClassifier(folder)
    alone = SingleGraph(folder / NAME, classify.manifest["pad_token_id"])
    cases = []
    own, inner = classify.manifest["policy"]["threshold"], len(classify.manifest["exits"]) - 1
    for windows in classify.encode(PAIRS):
        feed = alone.feed(windows)
        for threshold in ([0.0], [own], [0.4 + 0.2 * place for place in range(inner)]):
            for dims in [[len(threshold)], *([[]] if len(threshold) == 1 else [])]:
                answer = alone.answer(windows, threshold if dims else threshold[0])
                wanted = {name: values.tolist() for name, values in answer.items()}
                inputs = {name: values.tolist() for name, values in feed.items()}
                cases.append({"inputs": inputs, "threshold": threshold, "dims": dims, "wanted": wanted})
    (folder / "cases.json").write_text(json.dumps(cases))
    assert node(TESTS / "node" / "compare.mjs", folder) == f"{len(cases)} answers as in Python"

    example = re.search(r"```js\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    Path("classify.mjs").write_text(example[1], encoding="utf-8")
    Path("node_modules").symlink_to(MODULES)
    for text in (*PAIRS[:2], ("anna likes dogs " * 40,)):
        found = json.loads(node("classify.mjs", folder, *text))
        wanted = classify(text if len(text) == 2 else text[0])
        assert (found["label"], found["exit"]) == (wanted.label, wanted.exit)
        assert found["probabilities"] == pytest.approx(list(wanted.probabilities.values()), abs=1e-4)
