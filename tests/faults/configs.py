"""Settings that are misspelt, out of range, or at odds with each other; configurations that are no YAML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faults.fault import Fault
from faults.world import ENCODER

import mebert
from mebert.data import TextDataModule

__all__ = ["FAULTS"]

FIT = "fit --config tiny.yaml "
OWN = "fit --config own.yaml "
ADD = "fit --config tiny.yaml --config bad.yaml"


def module(name: str = "MultiExitModule", **settings: Any) -> Callable[[], object]:
    """Make a module with a tiny encoder."""
    encoder = ENCODER | settings.pop("encoder_config", {})
    return lambda: getattr(mebert, name)(encoder_config=encoder, num_labels=3, **settings)


def data(**settings: Any) -> Callable[[], object]:
    """Make a data module."""
    return lambda: TextDataModule(**settings)


FAULTS = [
    # ---- names ----
    Fault("no command of that name", "fitt --config tiny.yaml", ("there", "'fitt'")),
    Fault("an option misspelt", FIT + "--trainer.max_epoch 3", ("--trainer.max_epoch",)),
    Fault("a setting of the module misspelt", FIT + "--model.init_args.learning_rte 1", ("model", "'learning_rte'")),
    Fault(
        "a setting of the trainer misspelt in the YAML",
        ADD,
        ("'fit'", "'trainer.max_epoch'"),
        {"bad.yaml": "trainer:\n  max_epoch: 1\n"},
    ),
    Fault("a module that does not exist", FIT + "--model ProtoExitModul", ("model", "got ProtoExitModul;")),
    Fault(
        "a package that does not exist",
        FIT + "--model nowhere.Module",
        ("nowhere.Module", "no package nowhere", "check the spelling"),
    ),
    Fault("a class that is no module", FIT + "--model mebert.Entropy", ("model", "got mebert.Entropy")),
    Fault("a class of the standard library", FIT + "--model pathlib.Path", ("model", "got pathlib.Path")),
    Fault(
        "a policy that does not exist",
        FIT + "--model.init_args.policy mebert.Entropi",
        ("model", "got mebert.Entropi;"),
    ),
    Fault("a task that does not exist", data(task="sst-3"), ("'sst-3'",)),
    Fault("a metric that does not exist", data(train_file="rows.csv", metrics=["accuracy"]), ("'accuracy'",)),
    Fault("a monitor that is not measured", FIT + "--checkpoint.monitor val/accuracy", ("val", "accuracy"), ran=True),
    Fault(
        "the curve of a policy that is not drawn",
        FIT + "--checkpoint.monitor val/auc_pcee",
        ("'pcee'", "val", "auc_pcee"),
    ),
    # ---- values ----
    Fault("a word in the place of a number", FIT + "--trainer.max_epochs many", ("trainer.max_epochs", "got many")),
    Fault("a fraction in the place of a whole number", FIT + "--data.init_args.batch_size 1.5", ("data", "got 1.5")),
    Fault("a choice that is none", FIT + "--model.init_args.pooling cla", ("model", "'cls'", "'mean'")),
    Fault("a learning rate of 0", FIT + "--model.init_args.learning_rate 0", ("learning_rate", "got 0.0")),
    Fault("a learning rate without end", module(learning_rate=float("inf")), ("learning_rate", "got inf")),
    Fault("a threshold above 1", module(threshold=1.5), ("threshold", "got 1.5")),
    Fault("a weight that is not a number", module("ProtoExitModule", alpha=float("nan")), ("alpha", "got nan")),
    Fault("a batch of no rows", data(train_file="rows.csv", batch_size=0), ("batch_size",)),
    Fault("fewer epochs than none", FIT + "--trainer.max_epochs -5", ("trainer", "-5")),
    Fault("an accelerator that is not there", FIT + "--trainer.accelerator tpu", ("trainer", "'torch_xla>=1.13'")),
    Fault(
        "a precision that does not exist",
        FIT + "--trainer.precision 12",
        ("trainer.precision", "'transformer-engine'", "'transformer-engine-float16'"),
    ),
    Fault("half of the batches and a half", FIT + "--trainer.limit_train_batches 1.5", ("trainer", "1.5")),
    Fault("a seed below 0", FIT + "--seed_everything -1", ("seed_everything", "got -1")),
    Fault("a speed-up below 1", FIT + "--curve.points [0.5]", ("curve.points", "got [0.5]")),
    Fault("an exit after a layer that is not there", module(exit_layers=[1, 9]), ("exit_layers", "got [1,")),
    Fault("more layers than the encoder has", module(encoder_layers=9), ("encoder_layers", "got 9")),
    Fault(
        "a width that the heads do not divide",
        FIT + "--model.init_args.encoder_config.num_attention_heads 3",
        ("encoder_config",),
    ),
    Fault("an encoder of no family", module(encoder_config={"model_type": "gpt2"}), ("encoder_config", "'gpt2'")),
    Fault(
        "a setting of the encoder misspelt",
        module(encoder_config={"hidden_sise": 8}),
        ("encoder_config", "'hidden_sise'", "got 8);"),
    ),
    Fault("texts longer than the encoder takes", OWN + "--data.max_length 100", ("max_length", "100")),
    Fault("a dropout of 1", module(dropout=1.0), ("dropout", "got 1.0")),
    Fault("class weights for other classes", module(class_weights=[1.0, 2.0]), ("class_weights", "got [1.0,")),
    Fault("fewer prototypes than a vector has", module("ProtoExitModule", prototype_dim=0), ("prototype_dim", "got 0")),
    Fault("more students than layers", module("GEEPModule", num_students=3), ("num_students", "got 3")),
    # ---- at odds ----
    Fault("a task and own files", data(task="sst2", train_file="rows.csv"), ("task (sst2)", "train_file", "give one")),
    Fault(
        "labels and a regression",
        data(train_file="rows.csv", labels=["a", "b"], regression=True),
        ("labels", "regression"),
    ),
    Fault("no data at all", data(), ("give task", "train_file")),
    Fault("no validation rows", OWN + "--data.validation_file null", ("validation_file", "holdout")),
    Fault(
        "a split of a task, without a task",
        data(train_file="rows.csv", predict_split="test"),
        ("predict_split (test)", "predict_file"),
    ),
    Fault("a metric of ranking, without questions", data(train_file="rows.csv", metrics=["map"]), ("'map'",)),
    Fault("a policy for regression on classes", module(policy=mebert.ValueChange()), ("'change'", "'entropy'")),
    Fault("an exit that the model has not", module(policy=mebert.FixedExit(exit=9)), ("FixedExit",)),
    Fault(
        "weights of exits where the recipe has none",
        module("BERxiTModule", exit_weights="depth"),
        ("exit_weights (depth)", "BERxiT"),
    ),
    Fault(
        "a teacher, and nothing to teach",
        module("CurriculumDistillModule", distillation="none", teacher="x"),
        ("'x'", "'none'"),
    ),
    Fault("two stages in one epoch", FIT + "--model DeeBERTModule", ("stage1_epochs",)),
    Fault("a curriculum's samples without a curriculum", FIT + "--curriculum.samples 3", ("curriculum.samples",)),
    # ---- YAML ----
    Fault("no such configuration", "fit --config missing.yaml", ("missing.yaml", "--config")),
    Fault("a folder as configuration", "fit --config tokenizer", ("--config", "tokenizer")),
    Fault(
        "YAML that breaks off",
        "fit --config bad.yaml",
        ("bad.yaml, line 3", "','", "']'"),
        {"bad.yaml": "trainer:\n  max_epochs: [1\nmodel: x\n"},
    ),
    Fault(
        "YAML with a tab",
        "fit --config bad.yaml",
        ("bad.yaml, line 2", "'\\t'", "--config"),
        {"bad.yaml": "trainer:\n\tmax_epochs: 1\n"},
    ),
    Fault(
        "YAML that is a list", "fit --config bad.yaml", ("bad.yaml", "--config"), {"bad.yaml": "- trainer\n- model\n"}
    ),
    Fault("YAML that is one word", "fit --config bad.yaml", ("bad.yaml", "--config"), {"bad.yaml": "trainer\n"}),
    Fault("an empty YAML", "fit --config bad.yaml", ("bad.yaml", "--config"), {"bad.yaml": ""}),
    Fault(
        "a section misspelt in the YAML",
        ADD,
        ("'fit'", "'trainr.max_epochs'"),
        {"bad.yaml": "trainr:\n  max_epochs: 1\n"},
    ),
    Fault(
        "a key twice in the YAML",
        ADD,
        ("bad.yaml, line 3", "'max_epochs'", "line 2"),
        {"bad.yaml": "trainer:\n  max_epochs: 1\n  max_epochs: 2\n"},
    ),
    Fault(
        "YAML that names itself", ADD, ("bad.yaml, line 1", "--config"), {"bad.yaml": "trainer: &a\n  callbacks: *a\n"}
    ),
    Fault(
        "YAML of aliases to aliases",
        ADD,
        ("bad.yaml, line 7", "--config"),
        {
            "bad.yaml": "\n".join(
                ["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))]
            )
        },
    ),
    Fault(
        "YAML in Latin-1",
        "fit --config bad.yaml",
        ("bad.yaml", "--config"),
        {"bad.yaml": "experiment: café\n".encode("latin-1")},
    ),
    Fault(
        "a binary file as configuration",
        "fit --config bad.yaml",
        ("bad.yaml", "--config"),
        {"bad.yaml": b"\x00\x01\x02PK"},
    ),
    Fault(
        "a Python object in the YAML",
        ADD,
        ("bad.yaml, line 1", "--config"),
        {"bad.yaml": "experiment: !!python/object/apply:os.system [true]\n"},
    ),
]
