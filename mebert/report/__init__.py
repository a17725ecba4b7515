"""What a run shows and writes: tables, pictures, files."""

from mebert.report.evaluation import Evaluation, evaluate
from mebert.storage.run_folder import run_folder

__all__ = ["Evaluation", "evaluate", "run_folder"]
