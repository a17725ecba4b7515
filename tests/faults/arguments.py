"""Arguments of predict, the classifier, bench, calibrate, compare, cascade, inspect and study."""

from __future__ import annotations

from faults.fault import Fault
from faults.models import RUN, classifier

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
    Fault("None among the texts", lambda: classifier()(["a", None]), ("None",), run=True),
    Fault("a number among the texts", lambda: classifier()(["a", 3]), ("input 2",), run=True),
    Fault("None in the place of texts", lambda: classifier()(None), ("texts", "got NoneType"), run=True),
    Fault("a dictionary in the place of texts", lambda: classifier()({"text": "a"}), ("texts", "got dict"), run=True),
    Fault("bytes in the place of a text", lambda: classifier()(b"a"), ("texts", "got bytes"), run=True),
    Fault("a pair among texts", lambda: classifier()(["a", ("b", "c")]), ("input 2",), run=True),
    Fault("half a character in a text", lambda: classifier()("\ud800"), ("input 1",), run=True),
    Fault("a policy that is not known", lambda: classifier()("a", policy="entropi"), ("'entropi'",), run=True),
    Fault("another policy without a threshold", lambda: classifier()("a", policy="entropy"), ("'entropy'",), run=True),
    Fault(
        "a threshold that is not a number",
        lambda: classifier()("a", threshold=float("nan")),
        ("HybridDistanceEntropy", "got nan"),
        run=True,
    ),
    Fault(
        "a threshold that is a word", lambda: classifier()("a", threshold="high"), ("threshold", "got 'high'"), run=True
    ),
    Fault(
        "a threshold and a speed-up",
        lambda: classifier()("a", threshold=0.5, speedup=1.2),
        ("threshold and speedup", "give one"),
        run=True,
    ),
    Fault(
        "a speed-up that nobody stored",
        lambda: classifier()("a", speedup=9),
        ("speed-up of 9", "stored: 1.2, 2"),
        run=True,
    ),
    Fault("an engine that is not known", lambda: classifier()("a", engine="fast"), ("'fast'",), run=True),
    Fault(
        "an engine without its predictor",
        lambda: classifier()("a", engine="predicted"),
        ("engine predicted", "--exit_prediction.kind token"),
        run=True,
    ),
    Fault("batches of no texts", lambda: classifier()("a", batch_size=0), ("batch_size", "got 0"), run=True),
    Fault(
        "texts longer than the model reads",
        lambda: classifier()("a", max_length=1000),
        ("max_length", "got 1000"),
        run=True,
    ),
    Fault("a window of no texts", lambda: classifier()("a", window=0), ("window", "got 0"), run=True),
    # ---- predict ----
    Fault(
        "predict: an unknown ending",
        "predict --config tiny.yaml --ckpt_path best --out out.xls",
        ("'out.xls'",),
        run=True,
    ),
    Fault(
        "predict: into a folder that cannot be made",
        "predict --config tiny.yaml --ckpt_path best --out rows.csv/out.csv",
        ("rows.csv/out.csv",),
        run=True,
    ),
    Fault(
        "predict: onto a folder",
        "predict --config tiny.yaml --ckpt_path best --out tokenizer.csv",
        ("'tokenizer.csv'",),
        {"tokenizer.csv/x": "x"},
        run=True,
    ),
    Fault(
        "compare: onto a full disk",
        "compare runs/tiny/version_0 --out full.csv",
        ("No space left", "make room"),
        {"full.csv": lambda p: p.symlink_to("/dev/full")},
        run=True,
    ),
    Fault(
        "fit: into a folder that cannot be made",
        "fit --config tiny.yaml --trainer.default_root_dir rows.csv",
        ("rows.csv",),
    ),
    # ---- calibrate ----
    Fault("calibrate: for nothing", CALIBRATE, ("speedup", "max_drop", "epsilon"), run=True),
    Fault("calibrate: no model", "calibrate --speedup 2", ("model",)),
    Fault("calibrate: a speed-up below 1", CALIBRATE + "--speedup 0.5", ("speedup", "got 0.5"), run=True),
    Fault(
        "calibrate: a speed-up that is not a number", CALIBRATE + "--speedup [.nan]", ("speedup", "got nan"), run=True
    ),
    Fault("calibrate: an epsilon of 1", CALIBRATE + "--epsilon 1", ("epsilon", "got 1.0"), run=True),
    Fault("calibrate: a promise from too few rows", CALIBRATE + "--epsilon 0.01", ("0.01",), run=True),
    Fault("calibrate: an unknown split", CALIBRATE + "--speedup 1.5 --split tests", ("split", "got 'tests'"), run=True),
    Fault("calibrate: an unknown policy", CALIBRATE + "--speedup 1.5 --policies entropi", ("'entropi'",), run=True),
    Fault("calibrate: an option misspelt", CALIBRATE + "--speedups 2", ("--speedups",), run=True),
    Fault(
        "calibrate: a file with other labels",
        CALIBRATE + "--speedup 1.5 --file rows.csv",
        ("rows.csv, line 2", "'good'"),
        run=True,
    ),
    Fault(
        "calibrate: a file and a task",
        CALIBRATE + "--speedup 1.5 --file rows.csv --task sst2",
        ("rows.csv", "sst2"),
        run=True,
    ),
    # ---- bench ----
    Fault("bench: an unknown size", "bench --size huge", ("'huge'",)),
    Fault("bench: a model and a size", "bench --size tiny --model x", ("model and size", "give one")),
    Fault("bench: a speed-up of 1", BENCH + "--speedups 1", ("speedups", "got [1.0]")),
    Fault("bench: a speed-up that is not a number", BENCH + "--speedups [.nan]", ("speedups", "got [nan]")),
    Fault("bench: an unknown policy", BENCH + "--policies entropi", ("'entropi'",)),
    Fault("bench: an unknown engine", BENCH + "--engines fast", ("engines", "'shrink'", "'full'")),
    Fault("bench: lengths that are none", BENCH + "--lengths short", ("lengths", "got 'short'")),
    Fault("bench: a length that is not a number", BENCH + "--lengths nan", ("lengths", "got 'nan'")),
    Fault("bench: texts that are not there", BENCH + "--texts none.txt --tokenizer tokenizer", ("none.txt", "there")),
    Fault(
        "bench: a text file in Latin-1",
        BENCH + "--texts bad.txt --tokenizer tokenizer",
        ("bad.txt, line 1",),
        {"bad.txt": "café\n".encode("latin-1")},
    ),
    Fault("bench: a seed below 0", BENCH + "--seed -1", ("seed", "got -1")),
    Fault("bench: an unknown device", BENCH + "--device gpu", ("'gpu'",)),
    Fault(
        "bench: results onto a file",
        BENCH + "--out rows.csv",
        ("rows.csv",),
    ),
    # ---- compare, cascade, inspect ----
    Fault("compare: no run", "compare", ("runs",)),
    Fault("compare: a speed-up below 1", f"compare {RUN} --speedups 0.5", ("speedups", "got 0.5"), run=True),
    Fault(
        "compare: a speed-up that is not a number",
        f"compare {RUN} --speedups [.nan]",
        ("speedups", "got nan"),
        run=True,
    ),
    Fault("compare: an unknown policy", f"compare {RUN} --policy entropi", ("'entropi'", "runs", "tiny"), run=True),
    Fault("compare: an unknown ending", f"compare {RUN} --out out.docx", ("out.docx",), run=True),
    Fault(
        "compare: into a folder that cannot be made",
        f"compare {RUN} --out rows.csv/out.md",
        ("rows.csv/out.md",),
        run=True,
    ),
    Fault("cascade: one model", f"cascade --models {RUN}", ("got 1",), run=True),
    Fault(
        "cascade: a threshold above 1",
        f"cascade --models {RUN} {RUN} --threshold 2",
        ("MaxProbability", "got 2.0"),
        run=True,
    ),
    Fault(
        "cascade: into a folder that cannot be made",
        f"cascade --models {RUN} {RUN} --out rows.csv/new",
        ("rows.csv", "new"),
        run=True,
    ),
    Fault("inspect: one text of a pair", f"inspect {RUN} --pair one", ("got 1;",), run=True),
    Fault(
        "inspect: an unknown policy",
        f"inspect {RUN} --text a --policy entropi --threshold 0.5",
        ("'entropi'",),
        run=True,
    ),
    Fault("inspect: fewer samples than none", f"inspect {RUN} --text a --samples -1", ("samples", "got -1"), run=True),
    # ---- study ----
    Fault("study: no configuration", "study", ("configs/study/quick.yaml", "name")),
    Fault(
        "study: a section misspelt",
        "study --config study.yaml",
        ("base.dta",),
        {"study.yaml": "name: s\n" + STUDY.replace("{data", "{dta")},
    ),
    Fault("study: no recipe", "study --config study.yaml", ("recipes",), {"study.yaml": "name: s\ntasks: {t: {}}\n"}),
    Fault(
        "study: the same seed twice",
        "study --config study.yaml --seeds 1 1",
        ("seeds", "got [1,"),
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: a target below 1",
        "study --config study.yaml --targets 0.5",
        ("targets", "got [0.5]"),
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: a target that is not a number",
        "study --config study.yaml --targets [.nan]",
        ("targets", "got [nan]"),
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: jobs of none",
        "study --config study.yaml --jobs 0",
        ("got 0 and None",),
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: a recipe that is not there",
        "study --config study.yaml --only recipe=q",
        ("'q'", "--only", "recipe"),
        {"study.yaml": "name: s\n" + STUDY},
    ),
    Fault(
        "study: a setting of a run that is wrong",
        "study --config study.yaml",
        ("'class_path'", "'mebert.MultiExitModul'", "got {'init_args':"),
        {"study.yaml": "name: s\n" + STUDY.replace("MultiExitModule", "MultiExitModul")},
    ),
]
