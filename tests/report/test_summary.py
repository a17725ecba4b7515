"""The summary and the tables of the classes, on records made by hand."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import tiny_model

from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord
from mebert.policies import Entropy
from mebert.report.class_tables import MOST_PAIRS, class_tables, hardest_hit
from mebert.report.evaluation import evaluate
from mebert.report.layout import as_markdown, report_table
from mebert.report.summary import MOST_POINTS, one_line, summary_table
from mebert.storage.evaluation_file import read_evaluation


def evaluation_of(classes=3, points=2):
    """Exit 1 never says class 1, the last exit is always right; half of the rows leave at exit 1."""
    labels = torch.arange(60) % classes
    right = 8.0 * torch.nn.functional.one_hot(labels, classes).float()
    early = torch.where((labels == 1)[:, None], right.roll(1, 1), right)
    record = ExitRecord(torch.stack([early, right, right]), labels, torch.arange(60), torch.full((60,), 9))
    record.scores = {"entropy": torch.linspace(0.1, 1.0, 60).expand(3, 60).clone()}
    model = tiny_model(num_labels=classes)
    targets = tuple(1 + number / 10 for number in range(points))
    chosen = {"entropy": dict.fromkeys(targets, 0.5)}
    policy = Entropy(0.55).bind(model)
    return evaluate(model, record, "test", ["acc"], policy, {"entropy": policy}, chosen, targets)


def cells(table):
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


def test_rows_are_points_and_no_more_than_fit():
    evaluation = evaluation_of(points=9)
    table = summary_table(evaluation)
    rows = cells(table)
    assert [row[0] for row in rows] == [
        "full model",
        "in use",
        *(f"entropy {1 + n / 10:g}x" for n in range(MOST_POINTS)),
    ]
    assert rows[0][1:4] == ["1.0000", "", ""]
    current = evaluation.current
    assert rows[1][1:] == [f"{current.metric:.4f}", "", f"{1 - current.metric:.4f}", f"{current.speedup_flops:.2f}x"]
    assert "3 more in report.md." in table.caption
    assert "'LABEL_1'" in table.caption
    evaluation.current = None
    assert [row[0] for row in cells(summary_table(evaluation))][:2] == ["full model", "entropy 1x"]
    assert one_line(evaluation) == "test, 60 samples: acc 1.0000"


def test_a_further_split_is_one_line():
    evaluation = evaluation_of()
    point = evaluation.current
    wanted = f"in use {point.metric:.4f} at {point.speedup_flops:.2f}x by FLOPs"
    assert one_line(evaluation) == f"test, 60 samples: acc 1.0000, {wanted}"


def test_the_class_that_early_exit_costs_most():
    evaluation = evaluation_of()
    report = evaluation.classes["operating_point"].classes[1]
    assert report.recall < 1
    words = f"'LABEL_1' most: F1 1.0000 at full depth, {report.f1:.4f} in use (20 samples)"
    assert words in hardest_hit(evaluation)
    evaluation.classes["operating_point"] = evaluation.classes["full_depth"]
    assert hardest_hit(evaluation) is None, "it costs none"


@pytest.mark.parametrize(("classes", "titles"), [(3, ["Per class", "Confusion matrix", "Confusion matrix"]), (40, 2)])
def test_many_classes_have_pairs_and_not_a_matrix(classes, titles):
    tables = class_tables(evaluation_of(classes))
    if classes == 3:
        assert [str(table.title)[: len(title)] for table, title in zip(tables, titles, strict=True)] == titles
        return
    assert len(tables) == titles
    assert len(cells(tables[0])) == 40
    assert cells(tables[1]) == [["LABEL_1", "LABEL_2", "0", "1"]]
    assert len(cells(tables[1])) <= MOST_PAIRS


def test_a_table_in_markdown_is_plain_text():
    table = report_table("A *title*", ["name"], ["n"], "first\n<second>")
    table.add_row("a|b\n<script>\x1b[31m", "1")
    assert as_markdown(table).split("\n\n") == [
        r"## A \*title\*",
        "| name | n |\n| --- | ---: |\n" + r"| a\|b \<script\> | 1 |",
        "first",
        r"\<second\>",
    ]


def test_a_matrix_that_does_not_fit_is_named(tmp_path):
    evaluation = evaluation_of()
    content = evaluation.as_dict()
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert read_evaluation(file)["per_class"]["full_depth"]["classes"][1]["support"] == 20
    full = evaluation.classes["full_depth"]
    content["per_class"]["full_depth"] = replace(full, matrix=full.matrix[:2]).as_dict()
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=r"per_class\.full_depth.*not 3 rows and columns, one a class"):
        read_evaluation(file)
