"""The page and the picture of `python -m mebert compare`: what is in them, and that nobody's text becomes HTML."""

import json
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from made_runs import LAYERS, TARGETS, made_run, write_metrics, write_samples, write_settings
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mebert.cli.main import main
from mebert.commands.compare.paired import compare_runs
from mebert.commands.compare.run_view import read_run
from mebert.commands.compare.training import CURRICULUM
from mebert.metrics.curve import replay
from mebert.report.page import PALETTE

SCRIPT = "<script>alert('x')</script>"


class Page(HTMLParser):
    """What a page says: headings, tables as texts and sort values, scripts, charts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.tables, self._open = [], [], [], ["", {}, ""]
        self.feed(text)
        self.headings = [text for tag, _, text in self.texts if tag.startswith("h")]
        self.captions = [text for tag, _, text in self.texts if tag == "figcaption"]
        scripts = [(values, text) for tag, values, text in self.texts if tag == "script"]
        self.scripts = [text for values, text in scripts if "json" not in values.get("type", "")]
        charts = {int(values["id"][6:]): text for values, text in scripts if "json" in values.get("type", "")}
        self.charts = [json.loads(charts[number]) for number in sorted(charts)]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("h1", "h2", "h3", "h4", "td", "th", "figcaption", "script"):
            self._open = [tag, dict(attrs), ""]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])

    def handle_data(self, data):
        self._open[2] += data

    def handle_endtag(self, tag):
        if tag != self._open[0]:
            return
        _, values, text = self._open
        self._open = ["", {}, ""]
        if tag in ("td", "th"):
            self.tables[-1][-1].append((text.strip(), values))
        else:
            self.texts.append((tag, values, text.strip()))

    def table(self, header):
        """The table whose header has a column, as rows by column."""
        for table in self.tables:
            names = [text for text, _ in table[0]]
            if header in names:
                return [dict(zip(names, row, strict=True)) for row in table[1:]]
        raise AssertionError(f"no table has a column {header}")

    def chart(self, axis):
        """The chart whose x axis says this."""
        return next(c for c in self.charts if axis in c["layout"]["xaxis"]["title"]["text"])


def written(tmp_path, *args):
    path = tmp_path / "report.html"
    assert main(["compare", *map(str, args), "--out", str(path)]) == 0
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Two seeds of a recipe and a run of another."""
    folder = tmp_path_factory.mktemp("three")
    runs = {name: folder / name for name in ("a", "b", "c")}
    found = {
        "a": made_run(runs["a"], 1),
        "b": made_run(runs["b"], 2),
        "c": made_run(runs["c"], 3, quality=2.0, recipe="mebert.ProtoExitModule", alpha=0.1, difficulty=True),
    }
    return runs, found


@pytest.fixture(scope="module")
def page(three, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return written(folder, *three[0].values())


# ---- the table and the charts ----------------------------------------------------------------------------------------


def test_the_table_of_runs(page, three):
    runs, found = three
    rows = page.table("best exit")
    assert [row["folder"][0] for row in rows] == [str(folder) for folder in runs.values()]
    assert [row["line"][0] for row in rows] == ["MultiExit", "MultiExit", "ProtoExit"]
    for row, (record, evaluation) in zip(rows, found.values(), strict=True):
        right = (record.logits.argmax(-1) == record.labels).double().mean(1).tolist()
        for layer, value in zip(LAYERS, right, strict=True):
            assert float(row[f"layer {layer}"][1]["data-sort"]) == pytest.approx(value)
        assert float(row["best exit"][0]) == pytest.approx(max(right), abs=1e-4)
        assert float(row["area"][1]["data-sort"]) == evaluation.policies["entropy"].area
        assert float(row["1x"][1]["data-sort"]) == pytest.approx(right[-1])
        assert (row["policy"][0], row["task"][0]) == ("entropy", "rte")
    assert [row["seed"][0] for row in rows] == ["1", "2", "3"]
    # The mean difference to the first run's curve is compare's own, run by run, as its table for a terminal has it.
    comparison = compare_runs([read_run(folder) for folder in runs.values()], [1.5, 2.0, 3.0])
    assert [float(row["over 1"][1]["data-sort"]) for row in rows] == pytest.approx(comparison.over_first)
    assert len(set(comparison.over_first)) == 3
    paired = page.table("95 % interval")
    assert [float(row["p"][1]["data-sort"]) for row in paired] == [test.p_value for test in comparison.paired]
    assert [float(row["difference"][1]["data-sort"]) for row in paired] == [test.value for test in comparison.paired]
    swatches = [values["style"].removeprefix("background: ") for tag, values in page.tags if tag == "span"]
    assert swatches[:3] == [PALETTE[0], PALETTE[0], PALETTE[1]], "the colour of the line, beside its name"


def test_two_seeds_are_one_line_with_a_band(page, three):
    found = three[1]
    chart = page.chart("Speed-up by FLOPs")
    shown = [trace for trace in chart["data"] if trace["visible"]]
    lines = [trace for trace in shown if trace["mode"] == "lines" and "fill" not in trace]
    assert [trace["name"] for trace in lines] == ["MultiExit", "ProtoExit"]
    assert [trace["line"]["color"] for trace in lines] == list(PALETTE[:2])
    assert len([trace for trace in shown if trace.get("fill") == "toself"]) == 1, "one seed has no band"
    assert all(len(trace["x"]) <= 100 for trace in lines)
    # At every speed the line is the mean of both seeds' curves, read by straight lines over the cost.
    curves = [sorted((1 / p.speedup_flops, p.metric) for p in found[name][1].curves["entropy"]) for name in "ab"]
    for x, y in zip(lines[0]["x"], lines[0]["y"], strict=True):
        at = [np.interp(1 / x, [c for c, _ in curve], [m for _, m in curve]) for curve in curves]
        assert y == pytest.approx(float(np.mean(at)), abs=2e-3)
    band = next(trace for trace in shown if trace.get("fill") == "toself")
    half = len(band["x"]) // 2
    for x, high, low in zip(band["x"][:half], band["y"][:half], band["y"][: half - 1 : -1], strict=True):
        at = [np.interp(1 / x, [c for c, _ in curve], [m for _, m in curve]) for curve in curves]
        assert (low, high) == (pytest.approx(min(at), abs=4e-3), pytest.approx(max(at), abs=4e-3))
    assert any("bands from the lower to the higher of two seeds" in caption for caption in page.captions)


def test_a_single_run_is_shown_point_by_point_with_its_shares(page, three):
    record, evaluation = three[1]["c"]
    line = next(
        t for t in page.chart("Speed-up by FLOPs")["data"] if t.get("name") == "ProtoExit" and t["mode"] == "lines"
    )
    by_cost = sorted(evaluation.curves["entropy"], key=lambda p: -p.speedup_flops)
    kept = np.unique(np.linspace(0, len(by_cost) - 1, 100).round().astype(int))
    points = [by_cost[row] for row in kept]
    assert line["x"] == pytest.approx([p.speedup_flops for p in points], rel=1e-3)
    assert line["y"] == pytest.approx([p.metric for p in points], rel=1e-4)
    for word, point in zip(line["hovertext"], points, strict=True):
        taken = replay(record.scores["entropy"], point.threshold)
        shares = [f"{100 * share:.0f}" for share in (torch.bincount(taken, minlength=3) / len(taken)).tolist()]
        assert f"% at each exit: {' '.join(shares)}" in word
        assert f"threshold {point.threshold:.4g}" in word or point.threshold == float("inf")
        assert f"{point.speedup_flops:.2f}x by FLOPs" in word
        assert f"{point.speedup_layers:.2f}x by its own layers" in word


def test_buttons_choose_policy_and_axis(page, three):
    chart = page.chart("Speed-up by FLOPs")
    axis, policy = chart["layout"]["updatemenus"]
    assert [button["label"] for button in axis["buttons"]] == ["speed-up", "GFLOPs"]
    costs = axis["buttons"][1]["args"][0]["x"]
    speeds = axis["buttons"][0]["args"][0]["x"]
    plain = three[1]["a"][1].plain_gflops
    for cost, speed in zip(costs, speeds, strict=True):
        assert [plain / c for c in cost] == pytest.approx(speed, rel=1e-3)
    assert {evaluation.best_policy for _, evaluation in three[1].values()} & {"margin"}, "else the button is not needed"
    assert [button["label"] for button in policy["buttons"]] == ["own rule", "best rule"], "entropy is the own one"
    own, best = (button["args"][0]["visible"] for button in policy["buttons"])
    assert [a ^ b for a, b in zip(own, best, strict=True)] == [True] * len(chart["data"])


def test_operating_points_and_where_rows_leave(page, three):
    chart = page.chart("Share of the rows")
    assert [button["label"] for button in chart["layout"]["updatemenus"][0]["buttons"]] == ["1.2x", "1.5x"]
    for number, target in enumerate(TARGETS):
        columns = chart["layout"]["updatemenus"][0]["buttons"][number]["args"][0]["x"]
        for row, names in enumerate((("a", "b"), ("c",))):
            points = [p for n in names for p in three[1][n][1].points["entropy"] if p.target == target]
            records = [three[1][n][0] for n in names]
            exits = [replay(r.scores["entropy"], p.threshold) for r, p in zip(records, points, strict=True)]
            expected = np.mean([torch.bincount(e, minlength=3).numpy() / len(e) for e in exits], axis=0)
            assert [column[row] for column in columns] == pytest.approx(list(100 * expected))
    markers = [t for t in page.chart("Speed-up by FLOPs")["data"] if t["mode"] == "markers" and t["visible"]]
    for trace, names in zip(markers, ("ab", "c"), strict=True):
        at = [[three[1][n][1].points["entropy"][k].metric for n in names] for k in range(2)]
        assert trace["y"] == pytest.approx([float(np.mean(each)) for each in at], rel=1e-4)


def test_exits_difficulty_training_and_settings(page, three):
    exits = page.chart("Layer of the exit")
    means = [[e.exit_metrics["acc"] for _, e in (three[1]["a"], three[1]["b"])], [three[1]["c"][1].exit_metrics["acc"]]]
    for trace, each in zip(exits["data"], means, strict=True):
        assert trace["y"] == pytest.approx(np.mean(each, axis=0), rel=1e-4)
    mean, (low, high) = np.mean(means[0], axis=0), (np.min(means[0], axis=0), np.max(means[0], axis=0))
    whiskers = exits["data"][0]["error_y"]
    assert whiskers["array"] == pytest.approx(list(high - mean), rel=1e-3, abs=1e-6)
    assert whiskers["arrayminus"] == pytest.approx(list(mean - low), rel=1e-3, abs=1e-6)
    assert any(f"({low[0]:.4f} to {high[0]:.4f}, 2 seeds)" in word for word in exits["data"][0]["hovertext"])
    hard = page.chart("Difficulty of the row")
    assert [trace["name"] for trace in hard["data"]] == ["ProtoExit"], "only that run's rows have a difficulty"
    rows = [row for row in three[1]["c"][1].groups if row.group != "all"]
    assert hard["data"][0]["y"] == pytest.approx([row.mean_layers for row in rows], rel=1e-4)
    training = page.chart("Epoch")
    labels = [button["label"] for button in training["layout"]["updatemenus"][0]["buttons"]]
    assert labels == ["validation score", *(f"validation, exit {e}" for e in (1, 2, 3)), "training loss"]
    shown = [trace for trace in training["data"] if trace["visible"]]
    assert [(t["x"], t["y"]) for t in shown] == [
        ([1, 2], pytest.approx([0.5 + seed / 100, 0.55 + seed / 100])) for seed in (1, 2, 3)
    ]
    settings = {row["setting"][0]: [cell[0] for cell in row.values()][1:] for row in page.table("setting")}
    assert settings["seed_everything"] == ["1", "2", "3"]
    assert settings["model.alpha"] == ["-", "-", "0.1"]
    assert "model.learning_rate" not in settings, "the same in all"
    assert not any("logger" in name for name in settings), "a place is no setting"
    tests = page.table("95 % interval")
    assert [row["runs"][0] for row in tests] == ["2 - 1"] * len(tests[::2]) + ["3 - 1"] * len(tests[::2])


# ---- what is and what is not in the page -----------------------------------------------------------------------------


def test_one_file_that_asks_for_nothing(page):
    assert len(page.scripts) == 2, "plotly.js once, and the page's own"
    assert sum("plotly.js v" in script[:200] for script in page.scripts) == 1
    for tag, values_ in page.tags:
        for name in ("src", "href"):
            assert values_.get(name, "#").startswith(("#", "data:")), (tag, values_)
    policy = next(v["content"] for t, v in page.tags if t == "meta" and "http-equiv" in v)
    assert "default-src 'none'" in policy


def test_nobodys_text_becomes_html(tmp_path):
    folder = tmp_path / "runs" / "<script>alert('f')<" / "version_0"
    made_run(folder, 1, curriculum=True, task=SCRIPT, recipe="my.%{x}<b>Module", alpha="<i>1</i>")
    write_samples(folder, SCRIPT)
    other = tmp_path / "runs" / "b"
    made_run(other, 1, task=SCRIPT, recipe="my.%{x}<b>Module", alpha=2)
    page = written(tmp_path, folder, other)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == len(page.charts) + 2
    assert not [tag for tag, _ in page.tags if tag in ("b", "i")]
    samples = page.table("which")
    assert [row["text"][0] for row in samples] == ["an easy text", SCRIPT], "of the last epoch"
    assert samples[1]["label"][0] == "<b>yes</b>"
    titles = [chart["layout"]["yaxis"].get("title", {}).get("text") for chart in page.charts]
    share, difficulty = (page.charts[titles.index(title)] for title in CURRICULUM.values())
    assert [(t["x"], t["y"]) for t in share["data"]] == [([1, 2], [0.5, 1.0])], "epochs from 1"
    assert [t["y"] for t in difficulty["data"]] == [[0.1, 0.1], [0.9, 0.9], [0.0, 0.1]], "dotted: 10 and 90 %"
    bars = [name for c in page.charts for t in c["data"] if t.get("orientation") == "h" for name in t["y"]]
    assert bars
    assert not [name for name in bars if re.search("<(?!br>)|%{", name)]
    assert page.headings[0].startswith(SCRIPT)
    assert [row["folder"][0] for row in page.table("best exit")] == [str(folder), str(other)]
    names = [trace["name"] for chart in page.charts for trace in chart["data"] if "name" in trace]
    assert any("alpha" in name for name in names)
    assert not [name for name in names if "<" in name or "%{" in name], "plotly reads tags and templates in a name"
    for chart in page.charts:
        words = json.dumps([trace.get("hovertext", []) for trace in chart["data"]])
        assert "<i>" not in words
        assert "%{x}" not in words


def test_runs_of_several_tasks_and_runs_without_a_test(tmp_path, capsys):
    made_run(tmp_path / "a", 1)
    made_run(tmp_path / "b", 1, task="mrpc")
    made_run(tmp_path / "c", 1, rows=140)
    write_settings(tmp_path / "d", 2, task="mrpc")
    write_metrics(tmp_path / "d")
    write_settings(tmp_path / "e" / "version_0", 2, task="sst2")
    write_metrics(tmp_path / "e" / "version_0")
    runs = [str(tmp_path / name) for name in "abcde"]
    page = written(tmp_path, *runs)
    said = capsys.readouterr().out
    assert "run 4" in said
    assert str(tmp_path / "e/version_0") in said
    assert "python -m mebert fit --config" in said
    heads = [h for h in page.headings if re.match(r"(rte|mrpc|sst2)", h)]
    assert heads == ["rte (150 test rows)", "mrpc", "rte (140 test rows)", "sst2"]
    assert page.headings[0] == "5 runs on 3 tasks"
    waiting = page.table("score")
    assert waiting[0]["score"][0] == "0.5500", "the last one"
    assert waiting[0]["exit 3 acc"][0] == "0.6500"
    colours = {row["line"][0] for row in page.table("best exit")}
    assert colours == {"MultiExit"}
    # The picture has those with a test, and is refused without any; the tables go on refusing other rows.
    assert main(["compare", *runs, "--out", str(tmp_path / "curves.png")]) == 0
    assert "not in the picture" in capsys.readouterr().out
    for form in ("text", "md", "csv"):
        assert main(["compare", runs[0], runs[1], "--format", form]) == 2
        assert "their task differs" in capsys.readouterr().err
    assert main(["compare", runs[3], "--out", str(tmp_path / "none.png")]) == 2
    assert "no run was tested" in capsys.readouterr().err
    assert main(["compare", runs[3], "--out", str(tmp_path / "none.html")]) == 0
    assert f"python -m mebert test {runs[3]}\n" in capsys.readouterr().out


def test_a_run_without_its_outputs_is_shown_without_paired_tests(tmp_path):
    made_run(tmp_path / "a", 1)
    made_run(tmp_path / "b", 2)
    (tmp_path / "b" / "outputs.safetensors").unlink()
    page = written(tmp_path, tmp_path / "a", tmp_path / "b")
    assert [row["2x"][0] if "2x" in row else None for row in page.table("best exit")][1] in ("-", None)
    assert any("Without outputs.safetensors" in caption for caption in page.captions)
    assert "Is the difference more than chance?" not in page.headings
    lines = [t for t in page.chart("Speed-up by FLOPs")["data"] if t["mode"] == "lines" and "fill" not in t]
    assert {trace["name"] for trace in lines} == {"MultiExit"}


def test_what_cannot_be_read_is_named(tmp_path, capsys):
    write_settings(tmp_path / "bare", 1)
    made_run(tmp_path / "curve", 1)
    (tmp_path / "curve" / "curve.csv").write_text("policy,threshold\nentropy,1\n")
    for name, said in {"bare": "it lacks evaluation.json, metrics.csv", "curve": "cannot be read as a curve"}.items():
        assert main(["compare", str(tmp_path / name), "--out", str(tmp_path / "r.html")]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert str(tmp_path / name) in error


def test_pictures_by_suffix(three, tmp_path, capsys):
    runs = [str(folder) for folder in three[0].values()]
    for name in ("deep/curves.png", "curves.pdf", "curves.svg"):
        assert main(["compare", *runs, "--out", str(tmp_path / name)]) == 0
        command = re.search(r"python -m mebert (.*)", capsys.readouterr().out).group(1)
        assert shlex.split(command)[0] == "fit"
    with Image.open(tmp_path / "deep/curves.png") as picture:
        colours = {"#{:02X}{:02X}{:02X}".format(*c) for _, c in picture.convert("RGB").getcolors(10**6)}
        assert picture.width == 2000
    assert set(PALETTE[:2]) <= colours, "those of the page"
    assert PALETTE[2] not in colours
    assert (tmp_path / "curves.pdf").read_bytes()[:4] == b"%PDF"
    assert "<svg" in (tmp_path / "curves.svg").read_text()


# ---- single classes --------------------------------------------------------------------------------------------------


def test_what_early_exit_costs_each_class(tmp_path):
    """Both points against scikit-learn on the recorded logits; an older run is named; labels are escaped."""
    record, evaluation = made_run(tmp_path / "first")
    made_run(tmp_path / "old", 2)
    for name, change in (("first", None), ("old", "per_class")):
        path = tmp_path / name / "evaluation.json"
        content = json.loads(path.read_text())
        if change is None:
            for report in content["per_class"].values():
                report["classes"][0]["label"] = SCRIPT
        else:
            del content[change]
        path.write_text(json.dumps(content))
    page = written(tmp_path, tmp_path / "first", tmp_path / "old")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert SCRIPT not in text
    assert "Per class" in page.headings
    rows = page.table("F1 change")
    assert [row["class"][0] for row in rows] == [SCRIPT, "LABEL_1", "LABEL_2"]
    at = {"full": record.logits[-1], "in use": record.logits_at(evaluation.current.exits)}
    found = {}
    for where, logits in at.items():
        figures = precision_recall_fscore_support(record.labels, logits.argmax(-1), zero_division=0)
        for name, values in zip(("precision", "recall", "F1"), figures, strict=False):
            assert [row[f"{name} {where}"][0] for row in rows] == [f"{value:.4f}" for value in values]
        found[where] = figures[2]
        matrix = [[str(count) for count in row] for row in confusion_matrix(record.labels, logits.argmax(-1))]
        assert matrix in [[[cell for cell, _ in row[1:]] for row in table[1:]] for table in page.tables]
    change = found["in use"] - found["full"]
    assert [float(row["F1 change"][0]) for row in rows] == pytest.approx(change.tolist(), abs=5e-5)
    assert f"without figures per class: {tmp_path / 'old'}" in text
