"""The bound of full depth by other hands: transformers' own Trainer and classifier on the rows of a cell.

    pip install accelerate                                            # which transformers' Trainer needs
    python benchmarks/recipe_hf.py --config configs/study/recipe_full.yaml

For every task and seed of the study: the same tokens, rows, epochs, batch size, rate and schedule as its arms. The
result is one more arm, `hf_trainer`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from recipe import SCREEN, cells, result_path
from recipe_headline import HF_TRAINER
from recipe_paired import pack

from mebert.data import TextDataModule


def rows_of(data: TextDataModule, name: str) -> list[dict[str, Any]]:
    """A split as transformers' Trainer reads it, token ids and labels, in the order of a pass of ours over it."""
    split = data.split(name)
    kept = {}
    for position in range(len(split)):
        batch = data.collate_for()([split[position]])
        names = [key for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch]
        row = {key: batch[key][0].tolist() for key in names} | {"labels": int(batch["labels"][0])}
        kept[int(batch["index"][0])] = row
    return [kept[index] for index in sorted(kept)]


def answered(trainer: Any, rows: list[dict[str, Any]]) -> Any:
    """Whether each row (N,) is answered rightly, 1 or 0."""
    found = trainer.predict(rows)
    return (found.predictions.argmax(-1) == found.label_ids).astype(float)


def run(cell: Any) -> None:
    """One run, from the settings of a study's cell."""
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

    path = result_path(cell).with_name(f"{cell.task}_{HF_TRAINER}_{cell.seed}.json")
    if path.exists():
        return
    model, given, trainer = cell.config["model"]["init_args"], cell.config["data"]["init_args"], cell.config["trainer"]
    data = TextDataModule(tokenizer=model["encoder"], **given)
    data.prepare_data()
    data.setup()
    torch.manual_seed(cell.seed)
    classifier = AutoModelForSequenceClassification.from_pretrained(
        model["encoder"], num_labels=data.num_labels, trust_remote_code=False
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=trainer["max_epochs"],
            per_device_train_batch_size=given["batch_size"],
            per_device_eval_batch_size=given["eval_batch_size"],
            learning_rate=model["learning_rate"],
            warmup_steps=model["warmup_ratio"],  # below 1: a share of all steps
            bf16=trainer["precision"] == "bf16-mixed",
            use_cpu=True,
            seed=cell.seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        hf = Trainer(classifier, arguments, DataCollatorWithPadding(data.tokenizer), rows_of(data, "train"))
        hf.train()
        test, validation = (answered(hf, rows_of(data, split)) for split in ("test", "val"))
        result = {
            "task": cell.task,
            "arm": HF_TRAINER,
            "seed": cell.seed,
            "epochs": trainer["max_epochs"],
            "train_rows": given["max_train_samples"],
            "precision": trainer["precision"],
            "device": "CPU, 1 thread",
            "torch": torch.__version__,
            "test_rows": len(test),
            "val_rows": len(validation),
            "layers": [classifier.config.num_hidden_layers],
            "exits": [round(float(test.mean()), 5)],
            "val_exits": [round(float(validation.mean()), 5)],
            "rules": {},
            "right": {"last": pack(test)},
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(path.stem, result["exits"], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=SCREEN)
    parser.add_argument("--only", nargs="+", default=[], help="such as task=snli seed=1")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    for each in cells(settings.config, ["recipe=single", *settings.only]):
        run(each)
