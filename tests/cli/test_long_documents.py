"""`--data.stride` through the command line: stored with the model, so every command reads texts as training did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from runs import newest, read_csv, run, text_experiment, write_config, write_rows
from tiny import REVIEW_WORDS

from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.data.tokenizers import encode_texts
from mebert.metrics.record_files import load_record
from mebert.models import MultiExitModel
from mebert.storage.model_spec import ModelSpec

FILLING = ["the", "film", "was", "a", "plot", "and", "cast"]


def reviews(count, seed):
    """Texts whose one word that tells the label may stand anywhere; every third fits into one window."""
    generator = torch.Generator().manual_seed(seed)

    def text(row):
        length = 6 if row % 3 == 0 else int(torch.randint(10, 30, (1,), generator=generator))
        words = [FILLING[int(torch.randint(7, (1,), generator=generator))] for _ in range(length)]
        words[int(torch.randint(length, (1,), generator=generator))] = ("bad", "good")[row % 2]
        return " ".join(words)

    return [{"text": text(row), "label": ("bad", "good")[row % 2]} for row in range(count)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The finished run, in a folder with its files, of a model that reads windows of 10 tokens which overlap by 3."""
    from contextlib import chdir

    folder = tmp_path_factory.mktemp("long")
    splits = {"train": reviews(48, 0), "validation": reviews(24, 1), "test": reviews(20, 2)}
    settings = text_experiment(folder, splits, REVIEW_WORDS, max_length=10, stride=3)
    with chdir(folder):
        write_config(folder, settings)
        assert run("fit", "--config", "tiny.yaml", "--exit_prediction.kind", "token") == 0
    return newest(folder)


@torch.no_grad()
def by_hand(model, tokenizer, text):
    """Logits of all exits, (E, C): Hugging Face's windows one by one through the plain model, and their mean."""
    cut = {"truncation": True, "max_length": 10, "stride": 3, "return_overflowing_tokens": True}
    windows = [torch.tensor([ids]) for ids in tokenizer(text, **cut)["input_ids"]]
    return torch.stack([model(ids, torch.ones_like(ids)).logits[:, 0] for ids in windows]).mean(0)


def test_the_recorded_test_pass_is_the_mean_of_hugging_faces_windows(finished):
    saved, folder = finished / "model", finished.parents[2]
    spec = ModelSpec.read(saved)
    assert (spec.max_length, spec.stride) == (10, 3)
    model = MultiExitModel.from_pretrained(saved)
    assert model.window == 10
    tokenizer = EarlyExitClassifier.from_pretrained(saved).tokenizer
    texts = [row["text"] for row in read_csv(folder / "test.csv")]
    wanted = torch.stack([by_hand(model, tokenizer, text) for text in texts], 1)
    record, _ = load_record(next(finished.rglob("outputs*.safetensors")))
    torch.testing.assert_close(record.logits, wanted, atol=1e-4, rtol=1e-4)
    assert int(record.lengths.max()) > 20


def test_every_engine_gives_the_same_answers(finished):
    classify = EarlyExitClassifier.from_pretrained(finished, device="cpu", precision="float32")
    texts = [row["text"] for row in read_csv(finished.parents[2] / "test.csv")]
    full = answers(classify(texts, engine="full", threshold=0.9))
    for engine in ("shrink", "refill"):
        assert answers(classify(texts, engine=engine, threshold=0.9, batch_size=3)) == full
    assert answers([classify(text, threshold=0.9) for text in texts]) == full


def answers(found):
    return [(prediction.label, prediction.exit) for prediction in found]


@pytest.mark.slow
def test_commands_read_windows_too(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished.parents[2])
    name, at = str(finished), ["--threshold", "0.9"]
    classify = EarlyExitClassifier.from_pretrained(finished, device="cpu", precision="float32")
    texts = [row["text"] for row in read_csv("test.csv")]
    full = answers(classify(texts, engine="full", threshold=0.9))
    write_rows(Path("new.csv"), [{"text": text} for text in texts])
    assert main(["predict", name, "new.csv", *at, "--precision", "float32", "--out", "short.csv"]) == 0
    own = ["--data.predict_file", "new.csv", "--data.streaming", "true", "--predictions.path", "long.csv"]
    checkpoint = str(finished / "checkpoints" / "best.ckpt")
    assert (
        run("predict", "--config", "tiny.yaml", "--ckpt_path", checkpoint, *own, "--predictions.threshold", "0.9") == 0
    )
    for table in ("short.csv", "long.csv"):
        assert [(row["label"], int(row["exit"])) for row in read_csv(table)] == full
    assert main(["test", name, "test.csv"]) == 0
    assert main(["calibrate", name, "--max_drop", "0.5"]) == 0
    capsys.readouterr()
    assert main(["inspect", name, "--text", texts[1], "--samples", "0", "--format", "json"]) == 0
    traced = json.loads(capsys.readouterr().out)
    read = len(encode_texts(classify.tokenizer, [[texts[1]]], 10, 3)["input_ids"][0])
    assert f'"tokens": {read},' in json.dumps(traced)
    assert main(["bench", name, "--budget", "3", "--samples", "16", "--batch_sizes", "[4]", "--out", "bench"]) == 0
    assert Path("bench/bench.json").is_file()
