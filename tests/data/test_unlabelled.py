"""Training rows without a label: which of them stand beside the labelled rows of a batch, and what reads them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from modules import recipes
from modules.recipes import Watch
from runs import experiment, run, write_config, write_rows
from tiny import REVIEW_WORDS, quiet_trainer, save_tokenizer
from torch.nn import functional as F

from mebert import CurriculumDistillModule, FastBERTModule, MultiExitModule
from mebert.curriculum import CurriculumDataModule
from mebert.data import TextDataModule
from mebert.data.samplers import LengthGroupedSampler
from mebert.data.tokenizers import load_tokenizer
from mebert.data.unlabelled import UnlabelledBeside
from mebert.errors import UserError
from mebert.models import model_inputs


def samplers(labelled=22, unlabelled=9, batch_size=4, replicas=1, grouped=True):
    """The plain sampler and the one with unlabelled rows, of each process."""
    draw = np.random.default_rng(0)
    lengths, more = draw.integers(3, 30, labelled), draw.integers(3, 30, unlabelled)
    for rank in range(replicas):
        plain = LengthGroupedSampler(lengths, batch_size, replicas, rank, 5, grouped)
        inner = LengthGroupedSampler(lengths, batch_size, replicas, rank, 5, grouped)
        yield plain, UnlabelledBeside(inner, batch_size, lengths, more, grouped)


def cut(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("unlabelled", [9, 3, 60])
def test_batches_keep_their_labelled_rows_and_passes_their_order(unlabelled, replicas):
    seen: Counter = Counter()
    batches = -(-(22 // replicas) // 4)
    share = min(4, -(-unlabelled // (batches * replicas)))
    epochs = 5 * unlabelled // (batches * share * replicas) + 1
    for epoch in range(epochs):
        for plain, beside in samplers(unlabelled=unlabelled, replicas=replicas):
            plain.set_epoch(epoch)
            beside.set_epoch(epoch)
            assert beside.share == share
            found = cut(list(beside), 4 + share)
            assert len(beside) == sum(map(len, found)) == len(plain) + batches * share
            assert [rows[: len(rows) - share] for rows in found] == cut(list(plain), 4)
            others = [row for rows in found for row in rows[len(rows) - share :]]
            assert min(others) >= 22
            seen.update(others)
            beside.skip_rows = 2 * (4 + share)  # as a loader that goes on after two batches
            assert list(beside) == [row for rows in found[2:] for row in rows]
    assert len(seen) == unlabelled
    assert max(seen.values()) - min(seen.values()) <= 1, "a row comes again only after all others"


def test_long_rows_stand_beside_long_ones():
    ((_, beside),) = samplers(80, 40, 4)
    longest = [
        [beside.lengths[rows[:4]].max(), beside.more_lengths[np.array(rows[4:]) - 80].max()]
        for rows in cut(list(beside), 4 + beside.share)
    ]
    labelled, others = np.array(longest).T
    assert (others[np.argsort(-labelled, kind="stable")] == np.sort(others)[::-1]).all()


@pytest.fixture
def files(tmp_path):
    """12 labelled reviews and 7 unlabelled ones, whose own labels are none of the classes."""
    texts = [" ".join(REVIEW_WORDS[(i + k) % len(REVIEW_WORDS)] for k in range(1 + i % 5)) for i in range(19)]
    rows = [{"text": text, "label": ["bad", "bad", "good"][i % 3]} for i, text in enumerate(texts[:12])]
    rows.insert(3, {"text": "a film", "label": ""})  # dropped, as before
    named = {name: write_rows(tmp_path / f"{name}.csv", rows) for name in ("train", "validation")}
    more = write_rows(tmp_path / "more.jsonl", [{"text": text, "label": "unheard"} for text in texts[12:]])
    own = {f"{name}_file": path for name, path in named.items()} | {"unlabelled_file": more}
    return own | {"tokenizer": save_tokenizer(tmp_path, REVIEW_WORDS), "max_length": 16, "batch_size": 4}


@pytest.mark.parametrize("kind", [TextDataModule, CurriculumDataModule])
def test_the_labelled_split_has_no_other_rows(kind, files):
    data = kind(**files)
    data.setup("fit")
    assert set(data.splits["train"].labels) == {0, 1}
    assert data.splits["unlabelled"].labels is None
    indices = []
    for batch in data.train_dataloader():
        assert [len(batch[name]) for name in ("input_ids", "index", "labels")] == [7, 7, 4]
        assert (batch["index"][4:] >= 13).all()
        indices += batch["index"].tolist()
    assert sorted(set(indices)) == [*range(3), *range(4, 13), *range(13, 20)]
    assert data.texts("unlabelled", [6])["text"][0].startswith(REVIEW_WORDS[5])


def test_fastbert_learns_from_them_in_stage_2_alone(files):
    states = []
    for own in (files, {**files, "unlabelled_file": None}):
        module, watch = recipes.make(FastBERTModule, num_labels=2, stage1_epochs=1, class_weights="balanced"), Watch()
        data = TextDataModule(**own, pad_to_multiple_of=16)
        quiet_trainer(watch, max_epochs=2).fit(module, datamodule=data)
        assert module.class_weights.tolist() == pytest.approx([0.75, 1.5])
        states.append(watch.after)
    for name, value in states[0][2].items():  # after stage 1
        torch.testing.assert_close(value, states[1][2][name], rtol=1e-4, atol=1e-5)
    student = "exits.0.classifier.0.weight"
    assert not torch.allclose(states[0][-1][student], states[1][-1][student], atol=1e-5)


@pytest.mark.parametrize("num_labels", [2, 1])
def test_curriculum_distillation_by_hand(num_labels):
    """CE over the 4 rows with a label, the distances over all 6."""
    module = recipes.make(CurriculumDistillModule, num_labels=num_labels, feature_weight=0.3, temperature=1.0)
    batch = recipes.labelled(6, num_labels=num_labels)
    outputs = module.model(**model_inputs(batch))
    z, h = outputs.logits, outputs.features
    batch["labels"] = batch["labels"][:4]
    expected = torch.zeros(())
    for i in range(3):
        p = z[i].log_softmax(-1)
        ce = (z[i][:4, 0] - batch["labels"]).square().mean()
        if num_labels > 1:
            ce = -p[torch.arange(4), batch["labels"]].mean()
        if i == 2:
            expected = expected + ce / 3
            continue
        kd = (z[i] - z[i + 1].detach()).square().mean()
        if num_labels > 1:
            teacher = z[i + 1].detach().softmax(-1)
            kd = (teacher * (teacher.log() - p)).sum(-1).mean()
        fd = (1 - F.cosine_similarity(h[i], h[i + 1].detach(), dim=-1)).mean()
        expected = expected + (0.5 * ce + 0.5 * kd + 0.3 * fd) / 3
    torch.testing.assert_close(module.compute_loss(outputs, batch)["loss"], expected)


def test_the_external_teacher_reads_them_too(files, tmp_path):
    teacher = recipes.make(MultiExitModule, num_labels=2, spread=0.3).eval()
    teacher.model.label_names = ["bad", "good"]
    teacher.model.save_pretrained(tmp_path / "teacher", load_tokenizer(files["tokenizer"]))
    module = recipes.make(CurriculumDistillModule, num_labels=2, teacher=str(tmp_path / "teacher"))
    data = TextDataModule(**files)
    quiet_trainer().fit(module, datamodule=data)
    for batch in data.train_dataloader():
        with torch.no_grad():
            own = teacher.model.last_exit(**model_inputs(batch))
        torch.testing.assert_close(module._teacher.for_batch(batch["index"]), own, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(MultiExitModule, {}), (CurriculumDistillModule, {"distillation": "none"})],
)
def test_a_recipe_that_learns_from_labels_alone_refuses_them(kind, settings, files):
    module = recipes.make(kind, num_labels=2, **settings)
    with pytest.raises(UserError, match=r"unlabelled_file \(.*more.jsonl\) has no place in .*; leave it out, or take"):
        quiet_trainer().fit(module, datamodule=TextDataModule(**files))


def test_an_empty_text_is_an_error(files, tmp_path):
    path = write_rows(tmp_path / "blank.csv", [{"text": "a film"}, {"text": " "}])
    with pytest.raises(UserError, match=r"blank.csv, line 3: the text in 'text' is empty or blank"):
        TextDataModule(**{**files, "unlabelled_file": path}).setup("fit")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["FastBERTModule", "CurriculumDistillModule"])
def test_from_the_command_line(recipe, files, here):
    settings = experiment(recipe)
    settings["data"] = {"class_path": "mebert.TextDataModule", "init_args": files}
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    more = Path(files["unlabelled_file"])
    more.rename(more.with_suffix(".gone"))
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", "best") == 0, "only a training reads them"
