"""Settings that are misspelt, out of range, or at odds with each other; configurations that are no YAML."""

from collections.abc import Callable
from typing import Any

from faults.fault import ENCODER, Fault

import mebert
from mebert.data import TextDataModule

FIT = "fit --config tiny.yaml "
OWN = "fit --config own.yaml "


def module(name: str = "MultiExitModule", **settings: Any) -> Callable[[], object]:
    """Make a module with a tiny encoder."""
    encoder = ENCODER | settings.pop("encoder_config", {})
    return lambda: getattr(mebert, name)(encoder_config=encoder, num_labels=3, **settings)


def data(**settings: Any) -> Callable[[], object]:
    """Make a data module."""
    return lambda: TextDataModule(**settings)


def bad_yaml(what: str, content: str | bytes, says: str) -> Fault:
    """A second configuration with this content."""
    return Fault(what, "fit --config tiny.yaml --config bad.yaml", says, {"bad.yaml": content})


FAULTS = [
    # ---- names ----
    Fault("no command of that name", "fitt --config tiny.yaml", "no command 'fitt'; did you mean fit?"),
    Fault("an option before the command", "--experiment x", "no command before --experiment"),
    Fault("fit without a configuration", "fit", "fit needs rows or a configuration: python -m mebert fit reviews.csv"),
    Fault("an option of another command", FIT + "--speedup 2", "unrecognized arguments: --speedup 2"),
    Fault("an option misspelt", FIT + "--trainer.max_epoch 3", "did you mean --trainer.max_epochs?"),
    Fault("a setting of the module misspelt", FIT + "--model.init_args.learning_rte 1", "did you mean learning_rate?"),
    Fault("a module that does not exist", FIT + "--model ProtoExitModul", "got ProtoExitModul;"),
    Fault("a package that does not exist", FIT + "--model nowhere.Module", "no package nowhere"),
    Fault("a class that is no module", FIT + "--model mebert.Entropy", "got mebert.Entropy"),
    Fault("a policy that does not exist", FIT + "--model.init_args.policy mebert.Entropi", "got mebert.Entropi;"),
    Fault("a task that does not exist", data(task="sst-3"), "'sst-3'"),
    Fault("a metric that does not exist", data(train_file="rows.csv", metrics=["accuracy"]), "'accuracy'"),
    Fault(
        "a monitor that is not measured",
        FIT + "--checkpoint.monitor val/accuracy",
        "val/accuracy is not measured",
        ran=True,
    ),
    Fault(
        "the curve of a policy that is not drawn",
        FIT + "--checkpoint.monitor val/auc_pcee",
        "no curve of the policy 'pcee'",
    ),
    # ---- values ----
    Fault("a word in the place of a number", FIT + "--trainer.max_epochs many", "expected a whole number, got many"),
    Fault("a choice that is none", FIT + "--model.init_args.pooling cla", "'mean'"),
    Fault("a learning rate of 0", FIT + "--model.init_args.learning_rate 0", "learning_rate must be above 0"),
    Fault("fewer epochs than none", FIT + "--trainer.max_epochs -5", "You passed in -5"),
    Fault("an accelerator that is not there", FIT + "--trainer.accelerator tpu", "'torch_xla>=1.13'"),
    Fault("a precision that does not exist", FIT + "--trainer.precision 12", "'transformer-engine-float16'"),
    Fault("a seed below 0", FIT + "--seed_everything -1", "seed_everything must be from 0"),
    Fault("an exit after a layer that is not there", module(exit_layers=[1, 9]), "exit_layers must be increasing"),
    Fault("more layers than the encoder has", module(encoder_layers=9), "encoder_layers must be from 1 to 3"),
    Fault(
        "a width that the heads do not divide",
        FIT + "--model.init_args.encoder_config.num_attention_heads 3",
        "num_attention_heads is 3, and must divide hidden_size",
    ),
    Fault("an encoder of no family", module(encoder_config={"model_type": "gpt2"}), "model_type 'gpt2' is not"),
    Fault(
        "an MPNet with fewer buckets of distances than are read",
        module(encoder_config={"model_type": "mpnet", "relative_attention_num_buckets": 8}),
        "encoder_config: relative_attention_num_buckets is 8, and transformers reads 32",
    ),
    Fault(
        "a ModernBERT whose positions depend on the batch",
        module(
            encoder_config={
                "model_type": "modernbert",
                "rope_parameters": {"full_attention": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            }
        ),
        "and a text's positions must not depend on its batch: take another rope_type",
    ),
    Fault(
        "a DeBERTa whose convolution has no middle",
        module(encoder_config={"model_type": "deberta-v2", "conv_kernel_size": 4}),
        "encoder_config: conv_kernel_size is 4, and must be odd, or 0 for no convolution",
    ),
    Fault("a setting of the encoder misspelt", module(encoder_config={"hidden_sise": 8}), "mean hidden_size?"),
    Fault("texts longer than the encoder takes", OWN + "--data.max_length 100", "takes at most 64 tokens"),
    Fault("windows that only repeat", OWN + "--data.max_length 32 --data.stride 30", "stride must be below 30"),
    Fault("a stride beyond the window", OWN + "--data.max_length 32 --data.stride 32", "stride must be in [0, 32)"),
    Fault(
        "exit prediction from embeddings, with windows",
        OWN + "--data.stride 8 --exit_prediction.kind linear",
        "take kind token or static",
    ),
    Fault("class weights for other classes", module(class_weights=[1.0, 2.0]), "must hold 3 numbers above 0"),
    Fault("more students than layers", module("GEEPModule", num_students=3), "num_students must be from 1 to 2"),
    # ---- at odds ----
    Fault("a task and own files", data(task="sst2", train_file="rows.csv"), "task (sst2)"),
    Fault(
        "a metric of one label for rows of several",
        data(train_file="rows.csv", labels=["a", "b"], label_separator=",", metrics=["f1"]),
        "f1_micro",
    ),
    Fault("labels and a regression", data(train_file="rows.csv", labels=["a", "b"], regression=True), "both given"),
    Fault("no data at all", data(), "no data: give task"),
    Fault("no validation rows", OWN + "--data.validation_file null", "no validation rows"),
    Fault("a split without a task", data(train_file="rows.csv", predict_split="test"), "predict_split (test)"),
    Fault("a metric of ranking, without questions", data(train_file="rows.csv", metrics=["map"]), "give query_column"),
    Fault("a policy for regression on classes", module(policy=mebert.ValueChange()), "'entropy'"),
    Fault("an exit that the model has not", module(policy=mebert.FixedExit(exit=9)), "exit is 9, but"),
    Fault("weights of exits for BERxiT", module("BERxiTModule", exit_weights="depth"), "exit_weights (depth)"),
    Fault("a teacher, not distilled", module("CurriculumDistillModule", distillation="none", teacher="x"), "'none'"),
    Fault("two stages in one epoch", FIT + "--model DeeBERTModule", "leaves no epoch"),
    Fault("a curriculum's samples without a curriculum", FIT + "--curriculum.samples 3", "has no curriculum"),
    # ---- YAML ----
    Fault("no such configuration", "fit --config missing.yaml", "File does not exist: 'missing.yaml'"),
    Fault("a folder as configuration", "fit --config tokenizer", "Path is not a file: 'tokenizer'"),
    bad_yaml("YAML that breaks off", "trainer:\n  max_epochs: [1\nmodel: x\n", "bad.yaml, line 3"),
    bad_yaml("YAML that is a list", "- trainer\n- model\n", "bad.yaml is a list"),
    bad_yaml("an empty YAML", "", "bad.yaml is empty"),
    bad_yaml("a section misspelt in the YAML", "trainr:\n  max_epochs: 1\n", "'trainr.max_epochs'"),
    bad_yaml("a key twice in the YAML", "trainer:\n  max_epochs: 1\n  max_epochs: 2\n", "bad.yaml, line 3"),
    bad_yaml("YAML that names itself", "trainer: &a\n  callbacks: *a\n", "an alias (*name) inside"),
    bad_yaml(
        "YAML of aliases to aliases",
        "\n".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))]),
        "bad.yaml, line 7",
    ),
    bad_yaml("YAML in Latin-1", "experiment: café\n".encode("latin-1"), "not UTF-8 text"),
    bad_yaml("a binary file as configuration", b"\x00\x01\x02PK", "unacceptable character"),
    bad_yaml("a Python object in the YAML", "experiment: !!python/object/apply:os.system [true]\n", "the tag !!python"),
]
