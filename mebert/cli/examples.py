"""Two or three commands to copy, at the end of each command's help."""

from __future__ import annotations

RUN = "runs/quickstart/version_0"
TWO = "runs/first/version_0 runs/second/version_0"

# Each with its purpose.
EXAMPLES = {
    "fit reviews.csv": "texts of your own: columns, lengths and settings are found",
    "fit reviews.csv --recipe de3 --encoder FOLDER": "another recipe, another encoder",
    "fit --config configs/quickstart.yaml": "the built-in task",
    "fit --config configs/de3/rte.yaml --trainer configs/trainer/gpu.yaml": "DE3-BERT on RTE, on a GPU",
    "fit --config configs/quickstart.yaml --ckpt_path last": "continue a run that was stopped",
    f"validate {RUN}": "its best checkpoint",
    f"test {RUN}": "its best checkpoint on its own test rows",
    f"test {RUN} labelled.csv": "on labelled texts of your own",
    f"test {RUN} --curve.points [2,3,4]": "report other speed-ups",
    f"predict {RUN} my.csv --out out.csv": "texts of your own",
    f"predict {RUN} my.csv --speedup 3 --id_columns id": "faster, to standard output, with a column of the file",
    f"predict {RUN} - --format jsonl": "lines of standard input",
    f'predict {RUN} --text "A text."': "one text",
    f"predict {RUN} --out out.csv": "its own test rows",
    f"calibrate {RUN} --split test --max_drop 0.005": "lose at most half a point here",
    f"calibrate {RUN} --split test --epsilon 0.01 --delta 0.1": "with a guarantee for new texts",
    f"calibrate {RUN} my.csv --speedup 2": "on rows of your own",
    "calibrate runs/cascade --max_drop 0.01": "the threshold of a cascade",
    f"bench {RUN}": "a trained model on its own texts, within a minute",
    f"bench {RUN} --thorough": "every engine, precision and baseline",
    "bench --size minilm": "random weights of that size",
    "bench --size bert-base --batch_sizes 1 8 --precisions float32 bfloat16": "another size",
    f"compare {TWO}": "as tables",
    f"compare {TWO} --out report.html": "as a page",
    f"compare {TWO} --policy best --out comparison.md": "for a README",
    f'inspect {RUN} --text "A text." "Another."': "exit by exit",
    f'inspect {RUN} --pair "A premise." "A hypothesis." --speedup 3': "a pair of texts, leaving earlier",
    f'inspect {RUN} --text "A text." --out report.html': "all of it as a page",
    f"demo {RUN}": "a page on http://127.0.0.1:7860",
    f"demo {RUN} --port 7900 --policy max_prob": "another port, another policy",
    f"export {RUN} --out exported": "for ONNX Runtime, without PyTorch",
    f"export {RUN} --out exported --precision int8 --max_drop 0.02": "smaller, if it loses no more than that",
    f"serve {RUN}": "at http://127.0.0.1:8000",
    f"serve {RUN} --target_p99_ms 50 --max_drop 0.02": "faster under load, for at most this drop",
    "serve exported --backend onnx --workers 4 --host 0.0.0.0 --port 8080": "an export, for other machines",
    f"push {RUN} user/name --private --license apache-2.0": "on the Hugging Face Hub",
    f"push {RUN} user/name --out pushed": "look at the card and the files first",
    "cascade --models runs/small/version_0 runs/large/version_0 --out runs/cascade": "two runs as one model",
    "study --config configs/study/quick.yaml": "two minutes, no download",
    "study --config configs/study/minilm.yaml --jobs 2 --only task=rte": "some of it, two runs at a time",
    "study --config configs/study/quick.yaml --list": "one command a run, for a cluster",
    "completion bash > ~/.local/share/bash-completion/completions/mebert": "for bash",
    "completion zsh > ~/.zsh/completions/_mebert": "for zsh: a folder of your fpath",
}


def examples_of(command: str) -> str:
    """The examples of a command as a section of its help."""
    own = [(words, purpose) for words, purpose in EXAMPLES.items() if words.split()[0] == command]
    return "\n".join(["examples:", *(f"  # {purpose}\n  python -m mebert {words}" for words, purpose in own)])
