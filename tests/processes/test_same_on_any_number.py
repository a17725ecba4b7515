"""Every module and what is counted over processes: two and three of them against one, the same global batches."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from processes.process_groups import run_group
from processes.process_jobs import ENCODER, EVAL, TRAIN, all_jobs
from runs import read_csv, write_rows
from tiny import save_tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification

from mebert import modules

NOUNS = ["cat", "dog", "mouse", "horse", "cow"]


def write_inputs(folder):
    """Questions with their answers, texts to predict, a tokenizer of their words and a teacher."""
    words = [*NOUNS, "where", "is", "the", "here"]
    save_tokenizer(folder / "tokenizer", words)
    config = AutoConfig.for_model(**ENCODER, num_labels=2)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "teacher")
    save_tokenizer(folder / "teacher", words)
    rng, rows = random.Random(0), []
    for question in range(11):
        asked = {"qid": f"q{question}", "question": f"where is the {NOUNS[question % 5]}"}
        for answer in range(rng.randint(2, 6)):
            told = " ".join(rng.choices([*NOUNS, "the", "is"], k=rng.randint(1, 9)))
            rows.append({**asked, "answer": told, "label": int(answer == 0)})
    write_rows(folder / "answers.csv", rows)
    with (folder / "texts.jsonl").open("w") as file:
        for number in range(301):
            file.write(json.dumps({"text": " ".join(rng.choices(words, k=1 + number % 17))}) + "\n")


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def done(request, tmp_path_factory):
    """All jobs on one process and on several: the folder with what each has found, and both numbers."""
    folder, worlds = tmp_path_factory.mktemp("processes"), (1, request.param)
    write_inputs(folder)
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda world: run_group(world, all_jobs, folder), worlds))
    for world, end in zip(worlds, ends, strict=True):
        assert end.codes == [0] * world, "\n".join(text[-3000:] for text in end.said)
    return folder, worlds


def found(done, name):
    folder, worlds = done
    return [torch.load(folder / f"{name}-{world}.pt", weights_only=True) for world in worlds]


def tables(done, name):
    folder, worlds = done
    return [read_csv(folder / f"{name}-{world}.csv") for world in worlds]


@pytest.mark.slow
@pytest.mark.parametrize("name", modules.__all__)
def test_a_module_learns_the_same(done, name):
    """Rows of every global batch, its mean loss, all weights (prototypes too), metrics of validation."""
    one, other = found(done, name)
    assert len(one["losses"]) == 2 * 4
    assert [len(rows) for rows in one["rows"]] == [12, 12, 12, 6] * 2
    assert sorted(row for rows in one["rows"][:4] for row in rows) == list(range(TRAIN))
    assert one["moved"] > 10
    assert other["rows"] == one["rows"]
    assert other["losses"] == pytest.approx(one["losses"], rel=2e-4, abs=1e-6)
    for key, value in one["weights"].items():
        torch.testing.assert_close(other["weights"][key], value, rtol=1e-3, atol=5e-5, msg=f"{key} differs")
    for mine, its in zip(one["metrics"], other["metrics"], strict=True):
        assert {"val/loss", "val/score", "val/exit_03/acc"} <= mine.keys()
        assert its == pytest.approx(mine, rel=1e-3, abs=1e-5)


def test_prototypes_are_among_the_weights(done):
    weights = found(done, "ProtoExitModule")[0]["weights"]
    assert any(value.abs().sum() > 0 for name, value in weights.items() if "prototypes" in name)


def test_a_curriculum_keeps_its_order(done):
    one, other = found(done, "curriculum")
    assert other["rows"] == one["rows"]
    assert [len(set(rows)) for rows in one["rows"][:3]] == [12] * 3
    assert len({row for rows in one["rows"][:4] for row in rows}) < TRAIN, "pacing left out the hardest"


def test_a_curriculum_knows_the_same_scores(done):
    one, other = found(done, "scored curriculum")
    assert other["rows"][:4] == one["rows"][:4]
    seen = {row for rows in one["rows"][:4] for row in rows}
    assert (~one["difficulty"].isnan()).nonzero().squeeze(1).tolist() == sorted(seen)
    assert len(seen) < TRAIN
    torch.testing.assert_close(other["difficulty"], one["difficulty"], rtol=1e-4, atol=1e-4, equal_nan=True)


def test_one_process_trains_the_teachers_of_a_cross_review(done):
    for run in found(done, "cross-review"):
        order = run["difficulty"].argsort().tolist()
        assert run["rows"][:3] == [sorted(order[start : start + 12]) for start in (0, 12, 24)]


def test_retrieval_is_measured_over_all_processes(done):
    one, other = (run["metrics"][0] for run in found(done, "ranking"))
    assert 0 < one["test/exit_01/map"] < 1
    assert 0 < one["test/exit_03/mrr"] <= 1
    assert other == pytest.approx(one, rel=1e-5)


def test_exit_predictors_learn_the_same_table(done):
    one, other = (run["tensors"] for run in found(done, "predictors"))
    assert max(value.numel() for value in one.values()) >= 64
    assert other.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, msg=f"{name} differs")


@pytest.mark.parametrize("engine", ["shrink", "refill"])
def test_predictions_have_neither_duplicates_nor_holes(done, engine):
    one, other = tables(done, engine)
    assert [int(row["index"]) for row in one] == list(range(EVAL))
    assert_same_predictions(one, other)


def test_predictions_without_a_name_are_in_the_runs_folder(done):
    folder, worlds = done
    for world in worlds:
        (table,) = (folder / f"own-{world}").glob("version_*/predictions.*")
        assert table.name == "predictions.csv"
        assert len(table.read_text().splitlines()) == EVAL + 1


def test_streamed_predictions_are_in_the_order_of_the_file(done):
    one, other = tables(done, "stream")
    with (done[0] / "texts.jsonl").open() as file:
        assert [row["text"] for row in one] == [json.loads(line)["text"] for line in file]
    assert [int(row["index"]) for row in one] == list(range(301))
    assert_same_predictions(one, other)
    assert not list(done[0].glob("*.shards"))


def test_one_process_tokenises_and_the_others_map_what_it_has_written(done):
    one, other = found(done, "cache")
    assert one["calls"] == [1]
    assert other["calls"] == [1] + [0] * (len(other["calls"]) - 1)
    assert {one["is_mapped"], other["is_mapped"]} == {"memmap"}


def test_every_process_has_the_logits_of_the_teacher(done):
    one, other = (run["tables"] for run in found(done, "taught"))
    assert one[0].std() > 0.02
    torch.testing.assert_close(other, one.expand_as(other), rtol=1e-4, atol=1e-4)
    assert len(list((done[0] / "cache/mebert").glob("teacher-*"))) == 2, "computed once for each number of processes"


def assert_same_predictions(one, other):
    assert len({row["exit"] for row in one}) > 1
    for mine, its in zip(one, other, strict=True):
        for name, value in mine.items():
            if name.startswith("prob_"):
                assert float(its[name]) == pytest.approx(float(value), abs=1e-4)
            else:
                assert its[name] == value
