"""Two or three commands to copy, at the end of each command's help."""

from __future__ import annotations

from collections.abc import Mapping

RUN = "runs/quickstart/version_0"
CONFIG = f"--config {RUN}/config.yaml --ckpt_path best"

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "fit": {
        "fit --config configs/quickstart.yaml": "the built-in task",
        "fit --config configs/de3/rte.yaml --trainer configs/trainer/gpu.yaml": "DE3-BERT on RTE, on a GPU",
        "fit --config configs/quickstart.yaml --ckpt_path last": "continue a run that was stopped",
    },
    "validate": {
        f"validate {CONFIG}": "the newest run's best checkpoint",
    },
    "test": {
        f"test {CONFIG}": "the newest run's best checkpoint",
        f"test {CONFIG} --curve.points [2,3,4]": "report other speed-ups",
    },
    "predict": {
        f"predict {CONFIG} --out out.csv": "the task's test texts",
        f"predict {CONFIG} --out fast.csv --speedup 3": "three times as fast",
        f"predict {CONFIG} --out own.jsonl --data.predict_file my.csv": "texts of your own",
    },
    "calibrate": {
        f"calibrate --model {RUN} --split test --max_drop 0.005": "lose at most half a point here",
        f"calibrate --model {RUN} --split test --epsilon 0.01 --delta 0.1": "with a guarantee for new texts",
        f"calibrate --model {RUN} --file my.csv --speedup 2": "on rows of your own",
    },
    "bench": {
        f"bench --model {RUN}/model": "a trained model",
        "bench --size minilm": "random weights of that size",
        "bench --size bert-base --batch_sizes 1 8 --precisions float32 bfloat16": "another size",
    },
    "compare": {
        "compare runs/first/version_0 runs/second/version_0": "as tables",
        "compare runs/first/version_0 runs/second/version_0 --out report.html": "as a page",
        "compare runs/first/version_0 runs/second/version_0 --policy best --out comparison.md": "for a README",
    },
    "inspect": {
        f'inspect {RUN} --text "A text." "Another."': "exit by exit",
        f'inspect {RUN} --pair "A premise." "A hypothesis." --speedup 3': "a pair of texts, leaving earlier",
        f'inspect {RUN} --text "A text." --out report.html': "all of it as a page",
    },
    "cascade": {
        "cascade --models runs/small/version_0 runs/large/version_0 --out runs/cascade": "",
        "calibrate --model runs/cascade --max_drop 0.01": "then choose its threshold",
    },
    "study": {
        "study --config configs/study/quick.yaml": "two minutes, no download",
        "study --config configs/study/minilm.yaml --jobs 2 --only task=rte": "some of it, two runs at a time",
        "study --config configs/study/quick.yaml --list": "one command a run, for a cluster",
    },
    "completion": {
        "completion bash > ~/.local/share/bash-completion/completions/mebert": "",
        "completion zsh > ~/.zsh/completions/_mebert": "a folder of your fpath",
    },
}


def examples_of(command: str) -> str:
    """The examples of a command as a section of its help."""
    lines = ["examples:"]
    for words, purpose in EXAMPLES[command].items():
        lines += [f"  # {purpose}"] * bool(purpose) + [f"  python -m mebert {words}"]
    return "\n".join(lines)
