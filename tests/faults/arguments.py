"""Arguments of predict, the classifier, bench, calibrate, compare, cascade, inspect and study."""

from faults.fault import RUN, Fault
from faults.models import classifier

__all__ = ["FAULTS"]

CALIBRATE = f"calibrate --model {RUN} "
BENCH = "bench --size tiny --samples 8 "
STUDY = (
    "base: {data: {class_path: mebert.SyntheticEntailmentDataModule}}\n"
    "tasks: {t: {}}\n"
    "recipes: {r: {model: {class_path: mebert.MultiExitModule}}}\n"
)

FAULTS = [
    # ---- the classifier ----
    Fault("None among the texts", lambda: classifier()(["a", None]), "None"),
    Fault("bytes in the place of a text", lambda: classifier()(b"a"), "got bytes"),
    Fault("a pair among texts", lambda: classifier()(["a", ("b", "c")]), "input 2"),
    Fault("half a character in a text", lambda: classifier()("\ud800"), "input 1"),
    Fault("a policy that is not known", lambda: classifier()("a", policy="entropi"), "'entropi'"),
    Fault("another policy without a threshold", lambda: classifier()("a", policy="entropy"), "'entropy'"),
    Fault(
        "a threshold that is not a number", lambda: classifier()("a", threshold=float("nan")), "HybridDistanceEntropy"
    ),
    Fault("a threshold that is a word", lambda: classifier()("a", threshold="high"), "got 'high'"),
    Fault("a threshold and a speed-up", lambda: classifier()("a", threshold=0.5, speedup=1.2), "threshold and speedup"),
    Fault("a speed-up that nobody stored", lambda: classifier()("a", speedup=9), "stored: 1.2, 1.5, 2"),
    Fault("an engine that is not known", lambda: classifier()("a", engine="fast"), "'fast'"),
    Fault(
        "an engine without its predictor", lambda: classifier()("a", engine="predicted"), "--exit_prediction.kind token"
    ),
    Fault("batches of no texts", lambda: classifier()("a", batch_size=0), "batch_size"),
    Fault("texts longer than the model reads", lambda: classifier()("a", max_length=1000), "max_length"),
    Fault("a window of no texts", lambda: classifier()("a", window=0), "window"),
    # ---- predict ----
    Fault("predict: an unknown ending", "predict --config tiny.yaml --ckpt_path best --out out.xls", "'out.xls'"),
    Fault(
        "predict: onto a folder",
        "predict --config tiny.yaml --ckpt_path best --out tokenizer.csv",
        "'tokenizer.csv'",
        {"tokenizer.csv/x": "x"},
    ),
    Fault(
        "compare: onto a full disk",
        "compare runs/tiny/version_0 --out full.csv",
        "No space left",
        {"full.csv": lambda p: p.symlink_to("/dev/full")},
    ),
    Fault(
        "fit: into a folder that cannot be made",
        "fit --config tiny.yaml --trainer.default_root_dir rows.csv",
        "rows.csv",
    ),
    # ---- calibrate ----
    Fault("calibrate: for nothing", CALIBRATE, "max_drop"),
    Fault("calibrate: no model", "calibrate --speedup 2", "model"),
    Fault("calibrate: a speed-up below 1", CALIBRATE + "--speedup 0.5", "speedup"),
    Fault("calibrate: an epsilon of 1", CALIBRATE + "--epsilon 1", "epsilon"),
    Fault("calibrate: a promise from too few rows", CALIBRATE + "--epsilon 0.01", "0.01"),
    Fault("calibrate: an unknown split", CALIBRATE + "--speedup 1.5 --split tests", "got 'tests'"),
    Fault("calibrate: an option misspelt", CALIBRATE + "--speedups 2", "--speedups"),
    Fault("calibrate: a file with other labels", CALIBRATE + "--speedup 1.5 --file rows.csv", "rows.csv, line 2"),
    Fault("calibrate: a file and a task", CALIBRATE + "--speedup 1.5 --file rows.csv --task sst2", "rows.csv"),
    # ---- bench ----
    Fault("bench: an unknown size", "bench --size huge", "'huge'"),
    Fault("bench: a model and a size", "bench --size tiny --model x", "model and size"),
    Fault("bench: a speed-up of 1", BENCH + "--speedups 1", "got [1.0]"),
    Fault("bench: an unknown engine", BENCH + "--engines fast", "'shrink'"),
    Fault("bench: lengths that are none", BENCH + "--lengths short", "got 'short'"),
    Fault("bench: texts that are not there", BENCH + "--texts none.txt --tokenizer tokenizer", "none.txt"),
    Fault(
        "bench: a text file in Latin-1",
        BENCH + "--texts bad.txt --tokenizer tokenizer",
        "bad.txt, line 1",
        {"bad.txt": "café\n".encode("latin-1")},
    ),
    Fault("bench: a seed below 0", BENCH + "--seed -1", "got -1"),
    Fault("bench: an unknown device", BENCH + "--device gpu", "'gpu'"),
    Fault("bench: results onto a file", BENCH + "--out rows.csv", "rows.csv"),
    # ---- compare, cascade, inspect ----
    Fault("compare: no run", "compare", "runs"),
    Fault("compare: a speed-up below 1", f"compare {RUN} --speedups 0.5", "speedups"),
    Fault("compare: an unknown policy", f"compare {RUN} --policy entropi", "'entropi'"),
    Fault("compare: an unknown ending", f"compare {RUN} --out out.docx", "out.docx"),
    Fault("cascade: one model", f"cascade --models {RUN}", "got 1"),
    Fault("inspect: one text of a pair", f"inspect {RUN} --pair one", "got 1;"),
    Fault("inspect: fewer samples than none", f"inspect {RUN} --text a --samples -1", "samples"),
    # ---- study ----
    Fault("study: no configuration", "study", "configs/study/quick.yaml"),
    Fault(
        "study: a section misspelt",
        "study --config study.yaml",
        "base.dta",
        {"study.yaml": "name: s\n" + STUDY.replace("{data", "{dta")},
    ),
    Fault("study: no recipe", "study --config study.yaml", "recipes", {"study.yaml": "name: s\ntasks: {t: {}}\n"}),
    Fault(
        "study: the same seed twice",
        "study --config study.yaml --seeds 1 1",
        "got [1,",
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: a target below 1",
        "study --config study.yaml --targets 0.5",
        "got [0.5]",
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: jobs of none",
        "study --config study.yaml --jobs 0",
        "got 0 and None",
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: a recipe that is not there",
        "study --config study.yaml --only recipe=q",
        "--only",
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: a setting of a run that is wrong",
        "study --config study.yaml",
        "'mebert.MultiExitModul'",
        {"study.yaml": "name: s\n" + STUDY.replace("MultiExitModule", "MultiExitModul")},
    ),
]
