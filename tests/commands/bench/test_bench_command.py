"""`python -m mebert bench` from end to end on tiny models."""

import json
from contextlib import redirect_stdout
from io import StringIO
from statistics import median

import pytest
import torch
from runs import read_csv
from tiny import tiny_model

from mebert.cli.main import main
from mebert.commands.bench import onnx_graphs
from mebert.commands.bench.command import BenchSettings
from mebert.commands.bench.onnx_graphs import left_out
from mebert.policies import Entropy

SMALL = ["--samples", "24", "--rounds", "2", "--batch_sizes", "[1,8]", "--lengths", "9,4", "--max_length", "32"]
TINY = [
    "--encoder_config",
    "{model_type: bert, hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 64, "
    "vocab_size: 60, max_position_embeddings: 64}",
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What a bench of random weights wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["bench", *TINY, *SMALL, "--precisions", "[float32,int8]", "--speedups", "[1.5,2]", "--thorough"]
    baselines = ["--baselines", "[unsorted,padded,sorted,first_layers]", "--out", str(folder / "out")]
    engines = ["--engines", "[full,shrink,refill,predicted]"]
    with redirect_stdout(StringIO()) as printed:
        assert main([*arguments, *baselines, *engines]) == 0
    return folder / "out", json.loads((folder / "out/bench.json").read_text()), printed.getvalue()


def test_everything_is_measured(measured):
    _, content, _ = measured
    for size in (1, 8):
        for precision in ("float32", "int8"):
            rows = [r for r in content["rows"] if (r["batch_size"], r["precision"]) == (size, precision)]
            names = [r["name"] for r in rows]
            assert {"HF", "HF 2 layers", "plain", "full", "shrink", "refill", "predicted"} <= set(names)
            assert ("HF sorted" in names) == (size == 8)
            assert ("HF padded" in names) == (precision == "float32")
            for engine in ("shrink", "refill", "predicted"):
                assert [r["target"] for r in rows if r["name"] == engine] == [1.5, 2.0]
            assert len([r for r in rows if r["name"] == "full"]) == 1


def test_speedups_by_flops_are_met(measured):
    for row in measured[1]["rows"]:
        if row["target"] is not None:
            assert row["speedup_flops"] == pytest.approx(row["target"], rel=0.12), row
        elif "layer" not in row["name"]:
            assert row["speedup_flops"] == pytest.approx(1.0, rel=0.06), row
            assert row["mean_layers"] == 3
    same = {r["name"]: r for r in measured[1]["rows"] if r["target"] == 2.0 and r["precision"] == "float32"}
    # No exit was tried in vain: the same layers for fewer FLOPs.
    assert same["predicted"]["mean_layers"] == same["shrink"]["mean_layers"]
    assert same["predicted"]["speedup_flops"] > same["shrink"]["speedup_flops"]


def test_ratios_agree_with_the_recorded_seconds(measured):
    rows = {(r["name"], r["precision"], r["batch_size"], r["target"]): r for r in measured[1]["rows"]}
    for (name, precision, size, _), row in rows.items():
        assert len(row["seconds"]) == 2
        assert row["samples_per_second"] == pytest.approx(row["samples"] / median(row["seconds"]))
        assert row["p50"] <= row["p95"] <= row["p99"] <= 1000 * sum(row["seconds"])
        unsorted = rows["HF", "float32", size, None]["seconds"]
        expected = median(u / s for u, s in zip(unsorted, row["seconds"], strict=True))
        assert row["versus_unsorted"] == pytest.approx(expected)
        base = {"HF": None, "HF sorted": None, "HF padded": None}.get(name, "plain")
        if name == "plain" or "layer" in name:
            base = "HF" if size == 1 else "HF sorted"
        if base is None:
            assert row["speedup_wall"] is None
            continue
        seconds = rows[base, precision, size, None]["seconds"]
        expected = median(b / s for b, s in zip(seconds, row["seconds"], strict=True))
        assert row["speedup_wall"] == pytest.approx(expected)
        assert row["wall_per_flops"] == pytest.approx(expected / row["speedup_flops"])


def test_the_breakdown_is_whole(measured):
    shares = measured[1]["breakdown"]
    assert len(shares) == 2 * 2 * 2  # batch sizes, precisions, speed-ups
    for s in shares:
        parts = [s[name] for name in ("embeddings", "layers", "heads", "deciding", "rest")]
        assert sum(parts) == pytest.approx(1.0, abs=0.02)
        assert min(parts[:4]) > 0, "every part has been under the clock"
        assert s["exits_per_layers"] == pytest.approx((s["heads"] + s["deciding"]) / s["layers"])


def test_files_and_the_last_word(measured):
    folder, content, printed = measured
    assert {path.name for path in folder.iterdir()} == {"bench.json", "bench.csv", "bench.png"}
    assert (folder / "bench.png").read_bytes()[:4] == b"\x89PNG"
    table = read_csv(folder / "bench.csv")
    assert [(r["name"], r["precision"]) for r in table] == [(r["name"], r["precision"]) for r in content["rows"]]
    assert content["verdict"] in printed
    assert content["verdict"].startswith("Early exit ")
    assert "about 0:" in printed, "how long it will take is said beforehand"
    assert content["setting"]["threads"] == torch.get_num_threads()
    assert "drawn" in content["setting"]["exits"]


def test_a_trained_model_leaves_by_its_own_policy(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model("bert", num_labels=3).save_pretrained(tmp_path / "run/model", policy=Entropy(0.4))
    small = [*SMALL, "--precisions", "[float32]", "--speedups", "[1.3,3.5]", "--thorough", "--breakdown", "false"]
    small += ["--engines", "[shrink,refill,predicted]", "--baselines", "[unsorted]"]
    assert main(["bench", "run", *small]) == 0
    out = capsys.readouterr().out
    content = json.loads((tmp_path / "bench/run/bench.json").read_text())
    assert content["setting"]["exits"] == "as trained"
    assert "entropy does not reach 3.5x by FLOPs on these texts" in out
    assert out.endswith("python -m mebert calibrate run --speedup_flops 1.3\n"), "the largest that was reached"
    rows = [r for r in content["rows"] if r["target"] is not None and r["batch_size"] == 8]
    assert {r["name"] for r in rows} == {"shrink", "refill", "predicted"}
    assert {r["target"] for r in rows} == {1.3}
    exact = {r["name"]: r["speedup_flops"] for r in rows}
    assert exact["shrink"] == exact["refill"] >= 1.29
    assert exact["predicted"] == pytest.approx(1.3, rel=0.3)
    assert content["breakdown"] == []


def test_texts_of_a_file(tokenizer_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text("a b c\n\nd e\n" + "f " * 50 + "\n", encoding="utf-8")
    (tmp_path / "own.csv").write_text("one,two\na b,c\nd,e\n", encoding="utf-8")
    small = [*TINY, "--tokenizer", tokenizer_folder, "--max_length", "16", "--rounds", "1", "--batch_sizes", "[2]"]
    small += [
        "--precisions",
        "[float32]",
        "--speedups",
        "[1.1]",
        "--engines",
        "[shrink]",
        "--baselines",
        "[unsorted]",
        "--out",
        "out",
    ]
    assert main(["bench", *small, "--texts", "own.txt"]) == 0
    assert "own.txt: 3 samples of 8.3 tokens on average (4 to 16)" in capsys.readouterr().out
    pairs = ["--texts", "own.csv", "--text_column", "one", "--text_pair_column", "two"]
    assert main(["bench", *small, *pairs]) == 0
    assert "own.csv: 2 samples of 5.5 tokens on average (5 to 6)" in capsys.readouterr().out


@pytest.mark.slow
def test_onnx_runtime_is_measured_beside_pytorch(tmp_path):
    words = ["bench", *TINY, *SMALL, "--precisions", "[float32,int8]", "--speedups", "[1.5]", "--out", str(tmp_path)]
    with redirect_stdout(StringIO()) as printed:
        assert main([*words, "--engines", "[shrink,onnx]", "--baselines", "[sorted,onnx]"]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    for size in (1, 8):
        for precision in ("float32", "int8"):
            mine = [r for r in rows if (r["batch_size"], r["precision"]) == (size, precision)]
            whole, full, early = (r for r in mine if r["name"].startswith("ONNX"))
            assert (whole["name"], full["name"], early["name"]) == ("ONNX", "ONNX chain", "ONNX chain")
            assert whole["mean_layers"] == full["mean_layers"] == 3
            assert (full["target"], early["target"]) == (None, 1.5)
            ratios = [w / s for w, s in zip(whole["seconds"], early["seconds"], strict=True)]
            assert early["speedup_wall"] == pytest.approx(median(ratios)), "over the whole graph"
            drawn = next(r for r in mine if r["name"] == "shrink")
            assert early["mean_layers"] == pytest.approx(drawn["mean_layers"], abs=0.5), "about as many leave as drawn"
    assert "of ONNX chain over ONNX" in " ".join(printed.getvalue().split())


def test_without_onnx_runtime_a_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(onnx_graphs, "find_spec", lambda name: None)
    settings, cpu = BenchSettings(size="tiny"), torch.device("cpu")
    assert "pip install 'mebert[export]'" in str(left_out(settings, settings.grid(), cpu))
    assert left_out(settings, settings.grid(), torch.device("cuda")) == ""
    other = BenchSettings(size="tiny", precisions=["bfloat16"])
    assert left_out(other, other.grid(), cpu) == ""
