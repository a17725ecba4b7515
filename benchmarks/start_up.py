"""CPU seconds that commands need to start: what they import, in a process of its own each, the smallest of several.

    python benchmarks/start_up.py            # a line for each; --rounds 5 for more

Beside them stand the libraries that they cannot do without, so that a line says what mebert adds.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys

IMPORTS = {
    "torch": "torch",
    "transformers' encoders": "transformers.models.bert.modeling_bert",
    "lightning.pytorch.cli": "lightning.pytorch.cli",
    "EarlyExitClassifier": "mebert.inference.classifier",
    "predict RUN": "mebert.commands.predict.run",
    "test RUN FILE": "mebert.commands.test.run",
    "calibrate": "mebert.commands.calibrate.run",
    "bench": "mebert.commands.bench.run",
    "inspect": "mebert.commands.inspect.run",
    "compare": "mebert.commands.compare.run",
    "fit, test, validate": "mebert.cli.lightning_command, mebert; [getattr(mebert, name) for name in mebert.MODULE_OF]",
}


def cpu_seconds(module: str) -> float:
    """User and system time of a process that imports a module (or several, and what stands behind a semicolon)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a line for each import."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for name, module in IMPORTS.items():
        print(f"{name:<24}{min(cpu_seconds(module) for _ in range(rounds)):.2f} s", flush=True)


if __name__ == "__main__":
    main()
