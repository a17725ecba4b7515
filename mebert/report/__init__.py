"""What a run prints and writes about an evaluation: tables, plots, files, and the pages' frame in `page`."""

from mebert.report.evaluation import Evaluation, evaluate
from mebert.storage.run_folder import run_folder

__all__ = ["Evaluation", "evaluate", "run_folder"]
