"""The table of mebert's own commands: one typed function each, imported only when its command is given.

To add one: write `mebert/commands/<name>/command.py` with a function `<name>` whose arguments have types and whose
docstring explains them (Google style), and add it to `COMMANDS`. It returns nothing, or an exit status. A dataclass
does as well: its fields are the arguments, and `run_<name>` in the module `run` beside it takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import getdoc, isclass  # by name: `inspect` is a command here
from typing import Any

COMMANDS = {
    "bench": "Measure speed against whole models; say whether early exit pays here at an accuracy that holds.",
    "calibrate": "Choose thresholds for a speed, a budget or a largest loss, with a guarantee if asked; store them.",
    "compare": "Compare tested runs of one task at equal speed, with paired tests on the same rows.",
    "inspect": "Look inside one model: a text exit by exit, its tokens, what each exit sees in two dimensions.",
    "demo": "Try a model in the browser: its exits light up one by one, at any stored speed.",
    "export": "Write a model as a folder that ONNX Runtime runs without PyTorch, checked against PyTorch.",
    "serve": "Answer over HTTP: batches, worker processes, metrics, a speed for each request.",
    "push": "Put a model on the Hugging Face Hub, with a model card written from what its run knows.",
    "cascade": "Put trained models behind one another: small ones first, the large one where they are not confident.",
    "study": "Train recipes x tasks x seeds from one YAML, resumably, and compare them in one report.",
    "completion": "Print a script that completes commands and options in a shell: bash, zsh, fish.",
}

RUN_FIRST = {
    "predict": 'python -m mebert predict RUN [FILE | - | --text "..."] [options]',
    "test": "python -m mebert test RUN [FILE] [options]",
    "validate": "python -m mebert validate RUN [options]",
    "calibrate": "python -m mebert calibrate RUN [FILE] [options]",
    "bench": "python -m mebert bench [RUN] [options]",
    "inspect": 'python -m mebert inspect RUN --text "..." [options]',
    "demo": "python -m mebert demo RUN [options]",
    "compare": "python -m mebert compare RUN RUN ... [options]",
    "export": "python -m mebert export RUN --out FOLDER [options]",
    "serve": "python -m mebert serve RUN [--port 8000] [options]",
    "push": "python -m mebert push RUN user/name [options]",
}
"""The usage of commands whose first argument is a model."""

# Where each function is; `mebert.commands.<name>.command` if nothing else is said.
MODULES = {"cascade": "mebert.commands.cascade", "completion": "mebert.cli.completion"}


def command_function(name: str) -> Callable[..., Any]:
    """The function of a command, or the dataclass of its arguments."""
    return getattr(import_module(MODULES.get(name, f"mebert.commands.{name}.command")), name)


def run_command(name: str, args: Sequence[str]) -> int:
    """Parse the arguments of one command by its function's signature, and run it; returns the exit status."""
    from jsonargparse import auto_cli

    from mebert.cli.config_files import use_strict_loader
    from mebert.cli.examples import examples_of
    from mebert.commands.parser import UserErrorParser, normalize_args

    use_strict_loader()
    function = command_function(name)
    # Paragraphs of the docstring before its arguments; jsonargparse alone would take its first line.
    paragraphs = (getdoc(function) or "").partition("\nArgs:")[0].split("\n\n")
    result = auto_cli(
        function,
        return_instance=True,
        args=normalize_args(function, args),
        as_positional=False,
        parser_class=UserErrorParser,
        prog=f"python -m mebert {name}",
        usage=RUN_FIRST.get(name, f"python -m mebert {name} [options]"),
        description="\n\n".join(" ".join(text.split()) for text in paragraphs if text.strip()),
        epilog=examples_of(name),
        allow_abbrev=False,  # an option cut short is a typing error
    )
    if isclass(function):
        from mebert.runtime.log_filters import silence_library_bars
        from mebert.runtime.terminal import bars_wanted

        if not bars_wanted():
            silence_library_bars()
        getattr(import_module(f"mebert.commands.{name}.run"), f"run_{name}")(result)
        return 0
    return int(result or 0)
