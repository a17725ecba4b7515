"""`import mebert` is cheap."""

import subprocess
import sys


def test_importing_mebert_is_light():
    heavy = ("wandb", "datasets", "matplotlib", "plotly", "torch")
    code = f"import sys, mebert; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
