"""What a run prints and writes about an evaluation: tables, plots, files, and the pages' frame in `page`."""

from mebert.storage.aliases import lazy_names

MODULES = {
    "Evaluation": "mebert.report.evaluation",
    "evaluate": "mebert.report.evaluation",
    "run_folder": "mebert.storage.run_folder",
}

__all__ = ["Evaluation", "evaluate", "run_folder"]

__getattr__ = lazy_names(__name__, MODULES)
