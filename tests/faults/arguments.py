"""Arguments of predict, the classifier, bench, calibrate, compare, cascade, inspect and study."""

from typing import Any

from faults.fault import RUN, Fault, change_json
from faults.models import MODEL, classifier

from mebert import EarlyExitReranker

PREDICT = "predict --config tiny.yaml --ckpt_path best "
CALIBRATE = f"calibrate --model {RUN} "
SPEEDUP = CALIBRATE + "--speedup 1.5 "
BENCH = "bench --size tiny --samples 8 "
INSPECT = f"inspect {RUN} --pair a b "
COMPARE = f"compare {RUN} "
STUDY = """name: s
base: {data: {class_path: mebert.SyntheticEntailmentDataModule}}
tasks: {t: {}}
recipes: {r: {model: {class_path: mebert.MultiExitModule}}}
"""
TWO_TEXTS = "id,title,opinion,stars\n" + "".join(f"{n},a good title,an own opinion,{n % 2}\n" for n in range(20))


def ask(what: str, says: str, texts: Any = "a", **settings: Any) -> Fault:
    """A call of the classifier."""
    return Fault(what, lambda: classifier()(texts, **settings), says)


def study(what: str, says: str, args: str = "", text: str = STUDY, old: str = "", new: str = "") -> Fault:
    """A study whose YAML has one text in the place of another one."""
    return Fault(f"study: {what}", f"study --config study.yaml {args}", says, {"study.yaml": text.replace(old, new)})


def study_run(what: str, says: str, settings: str) -> Fault:
    """A study with settings of its runs that cannot work."""
    return study(what, says, old="MultiExitModule}}", new=f"MultiExitModule}}, {settings}}}")


FAULTS = [
    # ---- the classifier ----
    ask("None among the texts", "input 2 is None", ["a", None]),
    ask("a number among the texts", "input 2 is of the type int", ["a", 3]),
    ask("None in the place of texts", "got NoneType", None),
    ask("bytes in the place of a text", "got bytes", b"a"),
    ask("a pair among texts", "input 2 is a pair", ["a", ("b", "c")]),
    ask("half a character in a text", "a lone surrogate", "\ud800"),
    ask("a policy that is not known", "policy 'entropi' is not known", policy="entropi"),
    ask("a policy that reads what the model has not", "learning-to-exit head", policy="learned", threshold=0.5),
    ask("another policy without a threshold", "give a threshold or a speedup for it", policy="entropy"),
    ask("a threshold that is not a number", "must be in [0, 1], got nan", threshold=float("nan")),
    ask("too few thresholds", "has 1 number(s), but the model has", threshold=[0.5]),
    ask("a threshold that is a word", "threshold must be a number, got 'high'", threshold="high"),
    ask("a threshold and a speed-up", "threshold and speedup were both given", threshold=0.5, speedup=1.2),
    ask("a speed-up that nobody stored", "stored: 1.2, 1.5, 2", speedup=9),
    ask("an engine that is not known", "engine 'fast' is not known", engine="fast"),
    ask("an engine without its predictor", "--exit_prediction.kind token", engine="predicted"),
    ask("batches of no texts", "batch_size must be in [1, 2147483647], got 0", batch_size=0),
    ask("texts longer than the model reads", "max_length must be from 1 to 64", max_length=65),
    ask("a window of no texts", "window must be in [1, 2147483647], got 0", window=0),
    Fault("a reranker of three labels", lambda: EarlyExitReranker(classifier()), "a reranker needs two labels"),
    # ---- fit FILE ----
    Fault(
        "fit: a file whose text may be two columns", "fit two.csv", ("two.csv", "--text_column"), {"two.csv": TWO_TEXTS}
    ),
    Fault(
        "fit: a file without a label",
        "fit no.csv",
        ("no.csv", "--label_column"),
        {"no.csv": "text,n\na b,1\nc d,2\ne f,3\n"},
    ),
    Fault("fit: a file that is not there", "fit none.csv", "none.csv"),
    Fault("fit: a folder", "fit .", "give a file of labelled texts"),
    Fault("fit: a YAML without --config", "fit tiny.yaml", "--config tiny.yaml"),
    Fault(
        "fit: a recipe misspelt",
        "fit good.csv --recipe debert",
        "did you mean deebert?",
        {"good.csv": "text,label\na,x\nb,y\n"},
    ),
    Fault("fit: a recipe without a file", "fit --recipe de3", "needs a file of rows first"),
    Fault(
        "fit: no patience at all", "fit --config tiny.yaml --early_stopping.patience 0", "patience must be at least 1"
    ),
    study("a grid without a section", "write such as model.learning_rate", text=STUDY + "grid: {learning_rate: [1]}\n"),
    study("a grid of one value", "must be a list", text=STUDY + "grid: {model.learning_rate: 1}\n"),
    Fault("study: a run without a configuration", "study --run nowhere", "there is no config.yaml"),
    # ---- predict ----
    Fault("predict: an unknown ending", PREDICT + "--out out.xls", "must end in .csv, .tsv, .jsonl or .parquet"),
    Fault("predict: onto a folder", PREDICT + "--out dir.csv", "is a folder; give a file", {"dir.csv/x": "x"}),
    Fault("predict: an unknown format", PREDICT + "--format x", "predictions.format"),
    Fault(
        "compare: onto a full disk",
        COMPARE + "--out full.csv",
        "No space left",
        {"full.csv": lambda path: path.symlink_to("/dev/full")},
    ),
    Fault(
        "fit: into a folder that cannot be made",
        "fit --config tiny.yaml --trainer.default_root_dir rows.csv",
        "cannot write or read rows.csv",
    ),
    # ---- calibrate ----
    Fault("calibrate: for nothing", CALIBRATE, "give what the threshold is for"),
    Fault("calibrate: no model", "calibrate --speedup 2", "model is missing"),
    Fault("calibrate: an epsilon of 1", CALIBRATE + "--epsilon 1", "epsilon must be in (0, 1), got 1.0"),
    Fault("calibrate: a guarantee from too few rows", CALIBRATE + "--epsilon 0.01", "41 samples are too few"),
    Fault("calibrate: a guarantee from training rows", SPEEDUP + "--split train --epsilon 0.2", "trained the model"),
    Fault("calibrate: an unknown split", SPEEDUP + "--split tests", "split must be train, val or test"),
    Fault("calibrate: a policy without a threshold", SPEEDUP + "--policies [fixed]", "no threshold to choose"),
    Fault("calibrate: no policy", SPEEDUP + "--policies []", "one or more different ones"),
    Fault("calibrate: a policy to use that is not calibrated", SPEEDUP + "--policies [margin] --use edr", "use"),
    Fault("calibrate: an option misspelt", CALIBRATE + "--speedups 2", "did you mean --speedup?"),
    Fault("calibrate: a file with other labels", SPEEDUP + "--file rows.csv", "label 'good' is none of the classes"),
    Fault("calibrate: a file and a task", SPEEDUP + "--file rows.csv --task sst2", "task and file were both given"),
    Fault("calibrate: a task with other labels", SPEEDUP + "--task rte", "task 'rte' has 2 labels, but the model"),
    Fault(
        "calibrate: a task with the labels in another order",
        SPEEDUP + "--task snli",
        "was trained for c, b, a, in this order",
        {f"{MODEL}/exits.json": change_json(label_names=["c", "b", "a"])},
    ),
    # ---- bench ----
    Fault("bench: an unknown size", "bench --size huge", "size 'huge' is not known"),
    Fault("bench: a model and a size", "bench --size tiny --model x", "model and size were given; give one"),
    Fault("bench: a speed-up out of reach", BENCH + "--speedups 7", "7 is out of reach here: 4 exits give"),
    Fault("bench: no time", BENCH + "--budget 0", "budget must be above 0 seconds, got 0"),
    Fault("bench: a precision twice", BENCH + "--precisions [float32,float32]", "one or more different ones"),
    Fault("bench: a policy without a threshold", BENCH + "--policies [fixed]", "'fixed' has no speed to choose"),
    Fault("bench: an unknown engine", BENCH + "--engines fast", "engines: expected one of 'shrink'"),
    Fault("bench: lengths that are none", BENCH + "--lengths short", "lengths must be one of sst2"),
    Fault("bench: texts longer than the model reads", BENCH + "--max_length 4000", "tiny size allows 512"),
    Fault("bench: a task and texts", BENCH + "--task sst2 --texts a.txt", "task and texts were both given"),
    Fault(
        "bench: a text file in Latin-1",
        BENCH + "--texts bad.txt --tokenizer tokenizer",
        "bad.txt, line 1: not UTF-8 text",
        {"bad.txt": "café\n".encode("latin-1")},
    ),
    Fault("bench: results onto a file", BENCH + "--out rows.csv", "rows.csv is a file, not a folder"),
    # ---- compare, cascade ----
    Fault("compare: no run", "compare", "runs is missing"),
    Fault("compare: a folder of no run", "compare tokenizer", "tokenizer is not the folder of a run"),
    Fault("compare: a speed-up below 1", COMPARE + "--speedups 0.5", "speedups must be at least 1, got 0.5"),
    Fault("compare: an unknown policy", COMPARE + "--policy entropi", "nothing about the policy 'entropi'"),
    Fault("compare: an unknown ending", COMPARE + "--out out.docx", "give a name that ends in .md, .csv, .txt, .html"),
    Fault("compare: a page without a file", COMPARE + "--format html", "format html needs a file: --out report.html"),
    Fault("cascade: one model", f"cascade --models {RUN}", "needs at least 2 models, got 1"),
    Fault("cascade: no model", "cascade", "models is missing"),
    # ---- inspect ----
    Fault("inspect: no model", "inspect", "model is missing"),
    Fault("inspect: no such checkpoint", "inspect none.ckpt --text a", "no such file or folder"),
    Fault("inspect: one text of a pair", f"inspect {RUN} --pair one", "pair takes two texts at a time, got 1"),
    Fault("inspect: an empty text", f"inspect {RUN} --text a ' '", "text 2 is empty"),
    Fault("inspect: fewer samples than none", INSPECT + "--samples -1", "samples must be at least 0, got -1"),
    Fault("inspect: an unknown ending", INSPECT + "--out report.doc", "must end in .html, .png"),
    Fault("inspect: a picture without a file", INSPECT + "--format png", "format png is written to a file"),
    Fault("inspect: a format and another ending", INSPECT + "--format json --out a.png", "does not fit out a.png"),
    Fault("inspect: a task and a file", f"inspect {RUN} --task rte --file rows.csv", "task and file were both given"),
    # ---- serve ----
    Fault("serve: a run as an export", f"serve {RUN} --backend onnx", f"write one: python -m mebert export {RUN}"),
    Fault("serve: a port below 1024", f"serve {RUN} --port 80", "port must be in [1024, 65535], got 80"),
    Fault("serve: no time to answer", f"serve {RUN} --timeout 0", "timeout must be in (0, 3600], got 0"),
    Fault("serve: a queue for less than a request", f"serve {RUN} --max_queue 8", "max_queue must be in [64, "),
    # ---- push ----
    Fault("push: no name for the Hub", f"push {RUN}", "repo is missing: give a run and a name on the Hub"),
    Fault("push: a name without a user", f"push {RUN} name", "repo 'name' must be user/name"),
    Fault("push: a licence in words", f"push {RUN} me/name --license Mine", "give one such as apache-2.0"),
    Fault("push: no export", f"push {RUN} me/name --onnx {RUN}", f"onnx {RUN} is no exported model"),
    # ---- study ----
    Fault("study: no configuration", "study", "name is missing: give the YAML of a study"),
    study("two things at once", "exclude each other", "--list --report_only"),
    study("a name that is a path", "name is 'a/b'", old="name: s", new="name: a/b"),
    study("a name of a recipe with a blank", "'a b' must consist of", old="{r:", new="{a b:"),
    study("a section misspelt", "base.dta is not known", old="{data", new="{dta"),
    study("a section that is a number", "must be a mapping", old="MultiExitModule}", new="MultiExitModule}, data: 3"),
    study("no recipe", "recipes is missing", old="recipes: {r: {model: {class_path: mebert.MultiExitModule}}}"),
    study("no task", "tasks is missing", old="tasks: {t: {}}"),
    study(
        "no class of the model", "no model.class_path", old="{model: {class_path: mebert.MultiExitModule}}", new="{}"
    ),
    study("the same seed twice", "seeds must be different numbers", "--seeds 1 1"),
    study("jobs of none", "jobs and threads must be at least 1, got 0", "--jobs 0"),
    study("a recipe that is not there", "no recipe 'q'", "--only recipe=q"),
    study("a choice of runs that is no choice", "recipe=<name>", "--only joint"),
    study_run("a task that is not there", "no task 'mnli'", "tasks: {mnli: {}}"),
    study_run("a section of a task that is not known", "tasks.t.seed is not known", "tasks: {t: {seed: 3}}"),
    study_run("a folder of its own", "set `out`", "trainer: {default_root_dir: x}"),
    study_run("a logger of its own", "trainer.logger", "trainer: {logger: false}"),
    study_run("a word for a number", "batch_size: expected a whole number", "data: {batch_size: many}"),
    study_run("an option of a section misspelt", "'pionts'", "curve: {pionts: [2]}"),
]
