"""`python -m mebert completion`: a script with which a shell completes mebert's commands and options."""

from __future__ import annotations

__all__ = ["completion"]


def completion(shell: str = "bash") -> None:
    """Print a completion script for the command `mebert`: its commands, options, and what an option can be.

    The script is complete in itself: a shell that has read it starts no Python. Print it anew after an update.

    Args:
        shell: bash, zsh, tcsh, fish or powershell. May be given without the name: completion zsh.
    """
    from importlib.util import find_spec

    from mebert.errors import UserError

    if find_spec("shtab") is None:
        raise UserError("completion needs the package shtab: pip install 'mebert[completion]', or pip install shtab")
    from mebert.completion import completion_script

    print(completion_script(shell))
