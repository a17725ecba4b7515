"""PredictionWriter: order, formats, refusals."""

import csv
import json
from functools import partial
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from runs import read_csv

from mebert.callbacks import PredictionWriter
from mebert.errors import UserError
from mebert.policies import Entropy
from mebert.report.prediction_files import write_table
from mebert.storage.operating_point import OperatingPoint

TEXTS = ["plain", 'with "quotes", commas', "two\nlines", "", "Zürich 漢字", "=1+1"]


def module_of(**parts):
    points = {"entropy": {2.0: 0.25}}
    point = partial(OperatingPoint, "entropy", 0.3)
    known = {"chosen_by": "max_drop 0.005", "point_of": lambda policy, chosen_by: point(chosen_by)}
    own = {"policy": Entropy(0.3), "engine": "shrink", "operating_points": points, "state_dict": dict, "device": "cpu"}
    return SimpleNamespace(**own, **known, **parts)


def predict(path, num_labels=2):
    names = ["no", "yes"][:num_labels]
    kind = {"problem_type": "regression" if num_labels == 1 else "single_label_classification", "multi_label": False}
    model = SimpleNamespace(label_names=names, num_labels=num_labels, num_exits=4, exit_layers=(1, 2, 3, 4), **kind)
    trainer = SimpleNamespace(world_size=1, global_rank=0, is_global_zero=True, fast_dev_run=False, precision="32")
    trainer.datamodule = SimpleNamespace(predict_rows=lambda rows: {"text": [TEXTS[i] for i in rows]})
    module = module_of(model=model, trainer=trainer)
    writer = PredictionWriter(str(path))
    writer.on_predict_start(trainer, module)
    for rows in ([5, 0, 2], [-1, 1, 3], [4, -1]):
        index = torch.tensor(rows)
        yes = (index.float() + 1) / 10
        outputs = {"index": index, "label": index % 2, "exit": index.clamp(min=0) % 4 + 1}
        outputs["probabilities"] = torch.stack([1 - yes, yes], 1)[:, :num_labels]
        writer.on_predict_batch_end(trainer, module, outputs, {}, 0)
    writer.on_predict_epoch_end(trainer, module)
    writer.on_predict_end(trainer, module)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_table(tmp_path, suffix, capsys):
    path = tmp_path / "new folder" / f"out.{suffix}"
    predict(path)
    if suffix == "csv":
        rows = read_csv(path)
    elif suffix == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        rows = pq.read_table(path).to_pylist()
    assert [int(row["index"]) for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["label"] for row in rows] == ["no", "yes"] * 3
    assert [int(row["exit"]) for row in rows] == [1, 2, 3, 4, 1, 2]
    assert float(rows[5]["prob_yes"]) == pytest.approx(0.6)
    assert list(rows[0]) == ["index", "text", "label", "prob_no", "prob_yes", "exit"]
    assert [p.name for p in path.parent.iterdir()] == [path.name], "no unfinished file stays"
    assert "mean exit        2.17 of 4" in capsys.readouterr().out


def test_regression_has_a_score(tmp_path):
    predict(tmp_path / "out.csv", num_labels=1)
    with (tmp_path / "out.csv").open() as file:
        assert next(csv.reader(file)) == ["index", "text", "score", "exit"]


def test_an_older_table_stays_when_writing_breaks_off(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old", encoding="utf-8")

    def chunks():
        yield {"a": [1]}
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_table(path, chunks())
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_refusals(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.csv, \.tsv, \.jsonl or \.parquet"):
        PredictionWriter("out.xlsx")
    with pytest.raises(UserError, match=r"ends in \.csv, but predictions\.format is jsonl"):
        PredictionWriter("out.csv", format="jsonl")
    (tmp_path / "file").touch()
    for name in ("out.csv", "CoLA.tsv", "file"):
        with pytest.raises(UserError, match="give a folder"):
            PredictionWriter(str(tmp_path / name), format="glue")
    with pytest.raises(UserError, match="one of them"):
        PredictionWriter(speedup=2.0, threshold=0.1)


def test_speedup_and_engine_are_restored_afterwards():
    module = module_of()
    writer = PredictionWriter(speedup=2.0, engine="full")
    writer.on_predict_start(SimpleNamespace(is_global_zero=False), module)
    assert (module.policy.threshold, module.engine) == (0.25, "full")
    writer.on_predict_end(SimpleNamespace(), module)
    assert (module.policy.threshold, module.engine) == (0.3, "shrink")
    with pytest.raises(UserError, match="stored: 2"):
        PredictionWriter(speedup=3.0).on_predict_start(SimpleNamespace(is_global_zero=False), module)
