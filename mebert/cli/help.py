"""The overview of all commands, and the help of Lightning's: what is set often, and all of it by `--help_all`."""

from __future__ import annotations

import shutil
import textwrap
from argparse import SUPPRESS, Action, ArgumentParser

from mebert import MODULE_OF
from mebert.cli.commands import COMMANDS, RUN_FIRST
from mebert.cli.examples import examples_of
from mebert.cli.short_form import NAMES_FIRST

LIGHTNING_COMMANDS = {
    "fit": "Train, then test the best checkpoint and save it as a folder.",
    "validate": "Evaluate a checkpoint on the validation split.",
    "test": "Evaluate a checkpoint on the test split: exits, curve, operating points.",
    "predict": "Classify texts at a chosen speed.",
}

FIT_FILE = (
    "python -m mebert fit FILE [--recipe NAME] [--encoder ID] [--text_column NAME] [--label_column NAME] [options]"
)
FIT_FILE_HELP = (
    " FILE is a CSV, TSV, JSONL or Parquet file of labelled texts. Its columns are found (else an error names the "
    "option; --text_pair_column names that of second texts), a share is held out for validation and test, and settings "
    "follow its size and lengths; options win, of which --max_epochs, --learning_rate, --max_length, --holdout and "
    "--test_holdout may be written short. config.yaml in the run's folder has all of them, to be changed and run by "
    "--config (docs/training.md)."
)

_RUN = " RUN is a run, and where a file is given also a model folder or a Hub id."
RUN_FIRST_HELP = {
    "predict": f"{_RUN} The answers go to standard output or --out, and nothing else is written; the options of this "
    "form: python -m mebert predict RUN --help.",
    "test": f"{_RUN} Without FILE the run's own test rows are evaluated, with the options below; those of a labelled "
    "file: python -m mebert test RUN FILE --help.",
    "validate": " RUN stands for its config.yaml and its best checkpoint.",
}

OPTIONS = {"-h, --help": "Show this help.", "--version": "Show the version."}
# In the order of the work.
GROUPS = {
    "train and use": ("fit", "validate", "test", "predict", "export", "serve", "push"),
    "choose a speed and look at it": ("calibrate", "bench", "compare", "inspect", "demo"),
    "many models": ("cascade", "study"),
    "more": ("completion",),
    "options": tuple(OPTIONS),
}
PURPOSE = (
    "Early-exit BERT: train one encoder with an exit after every layer, choose a point on its accuracy-speed curve, "
    "and classify texts at that speed."
)

START = """\
start:
    python -m mebert fit --config configs/quickstart.yaml    (two minutes, no download)
    python -m mebert fit reviews.csv                         (texts of your own)
    python -m mebert COMMAND --help                          (its options, with examples)
"""


def overview() -> str:
    """The help, as wide as the terminal but not wider than lines are easily read."""
    width = min(shutil.get_terminal_size().columns, 100)
    known = {**LIGHTNING_COMMANDS, **COMMANDS, **OPTIONS}
    longest = max(map(len, known))
    parts = ["usage: python -m mebert COMMAND [options]", textwrap.fill(PURPOSE, width)]
    for title, names in GROUPS.items():
        lines = [f"{title}:"]
        for name in names:
            first, others = f"    {name:<{longest}}  ", " " * (longest + 6)
            lines.append(textwrap.fill(known[name], width, initial_indent=first, subsequent_indent=others))
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, START.rstrip("\n")])


SECTIONS = {
    "model": "model: the recipe, by name (its own settings: --model.help CLASS)",
    "data": "data: a task of the Hub, own files or the built-in task (its settings: --data.help CLASS)",
    "predictions": "predictions: what `predict` writes, and at which speed",
    "curve": "curve: operating points, and what `test` reports",
    "exit_prediction": "exit_prediction: learn to predict which exit a text will take (GEEP)",
    "curriculum": "curriculum: the log of a curriculum (CurriculumDataModule)",
    "exit_accuracy": "exit_accuracy: the metrics of every exit",
    "early_stopping": "early_stopping: end training when a validation metric does not improve",
    "finite_loss": "finite_loss: stop at a non-finite loss",
    "wandb": "wandb: what Weights & Biases gets of a test (configs/logger/wandb.yaml)",
    "trainer": "trainer: Lightning's",
    "checkpoint": "checkpoint: best.ckpt (settings of Lightning's ModelCheckpoint)",
    "last_checkpoint": "last_checkpoint: last.ckpt, from which a run goes on",
}

# By the names that `--model` and `--data` take.
DATA_MODULES = tuple(sorted(name for name in MODULE_OF if name.endswith("DataModule")))
RECIPES = tuple(sorted(name for name in MODULE_OF if name.endswith("Module") and name not in DATA_MODULES))

SHORT_OPTIONS = {
    "predictions.path": "--out",
    **{f"predictions.{name}": f"--{name}" for name in ("format", "speedup", "max_drop", "engine")},
}

# In plain words; the other options of the Trainer and of both checkpoints are left to `--help_all`.
OFTEN = {
    "config": "The experiment's YAML; may be given several times, the later wins.",
    "seed_everything": "Determines all that is drawn at random; true draws a seed.",
    "ckpt_path": "best or last: the newest run of the experiment that has one; or a file. `fit` goes on from it.",
    "model": f"{', '.join(RECIPES)}; or a class_path of your own. A setting of it: --model.NAME VALUE",
    "data": f"{', '.join(DATA_MODULES)}; or a class_path of your own. A setting of it: --data.NAME VALUE",
    "trainer.max_epochs": "Passes over the training rows.",
    "trainer.max_steps": "Optimiser steps after which training ends; -1 for no such limit.",
    "trainer.accelerator": "auto, cpu, gpu, mps, ...",
    "trainer.devices": "How many of them, a list of their numbers, or auto.",
    "trainer.strategy": "auto, ddp, ...: how several devices share the work.",
    "trainer.precision": "32-true, bf16-mixed, ...; null for what this machine is fast at.",
    "trainer.accumulate_grad_batches": "Batches whose gradients are added before a step.",
    "trainer.gradient_clip_val": "Largest norm of the gradient; null does not clip.",
    "trainer.val_check_interval": "Validate so often within an epoch: a share of it, or a number of batches.",
    "trainer.limit_train_batches": "Share or number of training batches of an epoch.",
    "trainer.limit_val_batches": "Share or number of validation batches.",
    "trainer.limit_test_batches": "Share or number of test batches.",
    "trainer.logger": "A logger's class, or false for none; null for CSV files in the run's folder.",
    "trainer.callbacks": "Further callbacks, by class_path.",
    "trainer.default_root_dir": "Where runs go; null for the folder runs.",
    "trainer.enable_progress_bar": "false: a plain line after each validation, as it is where there is no terminal.",
    "trainer.fast_dev_run": "A trial: a few batches of everything, and nothing is written.",
    "checkpoint.monitor": "The metric by which a checkpoint is the best (docs/running.md).",
    "checkpoint.mode": "max or min of it.",
    "checkpoint.every_n_train_steps": "Save after so many steps, too.",
    "checkpoint.save_weights_only": "false: best.ckpt keeps the optimiser's state and weights of its own.",
    "last_checkpoint.keep": "Keep last.ckpt of a finished training, to train longer from.",
    "last_checkpoint.every_n_train_steps": "Save after so many steps, too, for long epochs.",
}

TRAINING = (
    *("test_after_fit", "exit_prediction", "curriculum", "early_stopping", "finite_loss", "checkpoint"),
    "last_checkpoint",
    *("trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches", "trainer.gradient_clip_val"),
    *("trainer.limit_train_batches", "trainer.val_check_interval"),
)

# Sections and options that a command does not read, or that nobody needs to set.
NOT_SHOWN = {
    "fit": ("predictions", "weights_only"),
    "validate": (*TRAINING, "predictions", "wandb", "weights_only", "trainer.limit_test_batches"),
    "test": (*TRAINING, "predictions", "weights_only", "trainer.limit_val_batches"),
    "predict": (
        *(*TRAINING, "curve", "verbose", "exit_accuracy", "wandb", "weights_only", "return_predictions"),
        *("trainer.limit_val_batches", "trainer.limit_test_batches"),
    ),
}


def arrange(parser: ArgumentParser, command: str, whole: bool) -> None:
    """Give a command its description, its short options, and the order of its help."""
    parser.description = LIGHTNING_COMMANDS[command]
    parser.usage = f"python -m mebert {command} --config FILE [options]"
    if command in NAMES_FIRST:
        parser.usage = f"{RUN_FIRST[command]}\n       {parser.usage}"
        parser.description += RUN_FIRST_HELP[command]
    if command == "fit":
        parser.usage = f"{FIT_FILE}\n       {parser.usage}"
        parser.description += FIT_FILE_HELP
    more = "" if whole else f"All options: python -m mebert {command} --help_all\n\n"
    parser.epilog = more + examples_of(command)
    for action in parser._actions:
        if command == "predict" and (short := SHORT_OPTIONS.get(action.dest)):
            action.option_strings = [short, *action.option_strings]
            parser._option_string_actions[short] = action
        if not whole:
            _shorten(action, command)
    start = "checkpoint to start from" if command == "fit" else "checkpoint to run"
    titles = {"ckpt_path": start, **SECTIONS}
    for group in parser._action_groups:
        if group.title == "Linked arguments" and not whole:
            for action in group._group_actions:
                action.help = SUPPRESS
        elif (section := _section(group)) in titles:
            group.title, group.description = titles[section], None
    order = ["", *titles]
    parser._action_groups.sort(key=lambda group: order.index(s) if (s := _section(group)) in order else 0)


def _shorten(action: Action, command: str) -> None:
    """Hide an option that a command does not read or that is rarely set; else give it a plain help (`HelpFormatter`).

    Not by `SUPPRESS`: jsonargparse would leave such options out of the configurations that it writes, too.
    """
    section = action.dest.partition(".")[0]
    # Every section has `--curve FILE` or its like.
    takes_file = action.dest in SECTIONS and action.help == "Path to a configuration file."
    if {action.dest, section} & set(NOT_SHOWN[command]):
        action.hidden = action.not_read = True  # type: ignore[attr-defined]
    elif takes_file:
        action.hidden = True  # type: ignore[attr-defined]
    elif action.dest in OFTEN and action.option_strings and not action.option_strings[0].endswith(".help"):
        action.help = OFTEN[action.dest]
        action.plain_help = True  # type: ignore[attr-defined]
    elif section in ("trainer", "checkpoint", "last_checkpoint"):
        action.hidden = True  # type: ignore[attr-defined]


def _section(group: object) -> str:
    names = [action.dest.partition(".")[0] for action in getattr(group, "_group_actions", None) or []]
    return "ckpt_path" if "ckpt_path" in names else next(iter(names), "")
