"""An external teacher: its logits are the library's own, computed once, in the classes of the data."""

from pathlib import Path

import pytest
import torch
from runs import experiment, newest, run, write_config
from safetensors.torch import load_file, save_file
from tiny import quiet_trainer, save_tokenizer, tiny_config
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from mebert.data import TextDataModule
from mebert.errors import UserError
from mebert.modules import MultiExitModule, ProtoExitModule
from mebert.modules.teacher_labels import label_order
from mebert.modules.teacher_logits import TeacherLogits

WORDS = ["cat", "dog", "sat", "ran", "on", "mat", "bad", "good", "film", "movie"]
NAMES = ["bad", "good", "odd"]
CLOSE = {"atol": 1e-4, "rtol": 1e-4}  # rows are computed in batches, and alone for comparison


@pytest.fixture
def classifier(tmp_path):
    """A Hugging Face classifier with random weights and its tokenizer, as a folder."""

    def save(names=NAMES, family="bert", name="classifier"):
        torch.manual_seed(3)
        settings = tiny_config(family)
        config = AutoConfig.for_model(
            settings.pop("model_type"), **settings, id2label=dict(enumerate(names)), initializer_range=0.5
        )
        folder = tmp_path / name
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
        # The student's words in another order, and more of them.
        return save_tokenizer(folder, ["film", "the", "a", *reversed(WORDS[:-3]), "movie", "good"])

    return save


def rows(count):
    generator = torch.Generator().manual_seed(0)
    for i in range(count):
        length = int(torch.randint(1, 12, (), generator=generator))
        words = [WORDS[int(n)] for n in torch.randint(0, len(WORDS), (length,), generator=generator)]
        # Every fifth row has no label, so that a row's number and its place in the split differ.
        yield " ".join(words), "" if i % 5 == 4 else NAMES[i % 3]


@pytest.fixture
def data(tmp_path):
    """A data module over an own file, with a tokenizer of its own."""
    file = tmp_path / "train.csv"
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows(40)))
    files = dict.fromkeys(("train_file", "validation_file"), str(file))
    given = {"tokenizer": save_tokenizer(tmp_path / "student", WORDS), "max_length": 16, "batch_size": 8}
    return lambda **settings: TextDataModule(**{"labels": NAMES, **files, **given, **settings})


@pytest.fixture
def prepared(data, hf_cache):
    """The logits of a teacher over the data, prepared as `on_fit_start` does it."""

    def prepare(teacher, **settings):
        made = data(**settings)
        logits, trainer = TeacherLogits(teacher), quiet_trainer()
        made.trainer, trainer.datamodule = trainer, made
        made.setup("fit")
        logits.prepare(trainer)
        return logits, made

    return prepare


def expected(folder, texts):
    """The library's own pipeline: its tokenizer, its model, one text at a time."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        each = [model(**tokenizer(t, truncation=True, max_length=16, return_tensors="pt")).logits for t in texts]
    return torch.cat(each)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_logits_are_those_of_the_library(classifier, prepared, family):
    folder = classifier(family=family)  # DistilBERT takes no token types, which this tokenizer gives
    teacher, data = prepared(folder)
    numbers = [i for i in range(40) if i % 5 != 4]
    wanted = expected(folder, [text for i, (text, _) in enumerate(rows(40)) if i in numbers])
    assert wanted.std() > 0.1
    assert teacher.logits.dtype == torch.float32
    torch.testing.assert_close(teacher.logits, wanted, **CLOSE)
    for batch in data.train_dataloader():
        places = [numbers.index(row) for row in batch["index"].tolist()]
        torch.testing.assert_close(teacher.for_batch(batch["index"]), wanted[places], **CLOSE)
    assert teacher.for_batch(torch.tensor([4])).isnan().all(), "a row that is not trained on"


def test_classes_are_matched_by_name(classifier, prepared):
    plain, _ = prepared(classifier())
    shuffled, _ = prepared(classifier(names=["ODD", "Bad", "good"], name="shuffled"))
    torch.testing.assert_close(shuffled.logits, plain.logits[:, [1, 2, 0]])


def test_the_table_is_computed_once(classifier, prepared, hf_cache, monkeypatch):
    folder = classifier()
    torch.manual_seed(5)
    first, _ = prepared(folder)
    after_computing = torch.rand(3)
    (file,) = (hf_cache / "mebert").glob("teacher-*")
    assert "-classifier-" in file.name

    def built(*_, **__):
        raise AssertionError("the teacher was built")

    with monkeypatch.context() as patch:
        patch.setattr(AutoModelForSequenceClassification, "from_pretrained", built)
        torch.manual_seed(5)
        again, _ = prepared(folder)
        assert torch.equal(again.logits, first.logits)
        assert torch.equal(torch.rand(3), after_computing), "training must not depend on what was in the cache"
        for change in ({"max_length": 12}, {"max_train_samples": 10}, {"labels": ["good", "bad", "odd"]}):
            with pytest.raises(AssertionError, match="was built"):
                prepared(folder, **change)
    # Other weights under the same name are another teacher; a damaged table is made anew.
    weights = Path(folder) / "model.safetensors"
    state = load_file(weights)
    state["classifier.bias"] += 1.0
    save_file(state, weights, metadata={"format": "pt"})
    moved, _ = prepared(folder)
    torch.testing.assert_close(moved.logits, first.logits + 1.0)
    assert len(list((hf_cache / "mebert").glob("teacher-*"))) == 2
    for table in (hf_cache / "mebert").glob("teacher-*"):
        table.write_bytes(b"half")
    torch.testing.assert_close(prepared(folder)[0].logits, moved.logits)


def test_a_saved_model_teaches_with_its_last_exit(prepared, tmp_path):
    module = spread(MultiExitModule)
    module.model.label_names = ["good", "bad", "odd"]
    module.model.save_pretrained(tmp_path / "own")
    save_tokenizer(tmp_path / "own", WORDS)
    teacher, data = prepared(str(tmp_path / "own"))
    torch.testing.assert_close(teacher.logits, last_exit(module, data)[:, [1, 0, 2]], **CLOSE)


@pytest.mark.parametrize("recipe", [MultiExitModule, ProtoExitModule])
def test_a_checkpoint_teaches_with_its_last_exit(prepared, tmp_path, recipe):
    """One written from Python: without the run's model folder, so without names and tokenizer."""
    module = checkpoint_of(recipe, tmp_path / "own.ckpt")
    teacher, data = prepared(str(tmp_path / "own.ckpt"))
    torch.testing.assert_close(teacher.logits, last_exit(module, data), **CLOSE)


def spread(recipe):
    torch.manual_seed(0)
    module = recipe(encoder_config=tiny_config("bert", initializer_range=0.5), num_labels=3)
    return module.eval()


def checkpoint_of(recipe, path):
    module, trainer = spread(recipe), quiet_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return module


def last_exit(module, data):
    """The last exit's logits (N, C) of the training split, row by row."""
    split = data.split("train")
    rows = [torch.from_numpy(split[i]["input_ids"].astype("int64")).unsqueeze(0) for i in range(len(split))]
    with torch.no_grad():
        return torch.cat([module.model.last_exit(ids, torch.ones_like(ids), torch.zeros_like(ids)) for ids in rows])


def test_regression(classifier, prepared, tmp_path):
    file = tmp_path / "numbers.csv"
    file.write_text("text,label\ncat sat,0.5\na good film,2.5\nthe dog,1.0\n")
    folder = classifier(names=["LABEL_0"])
    teacher, _ = prepared(folder, train_file=str(file), validation_file=str(file), labels=None, regression=True)
    torch.testing.assert_close(teacher.logits, expected(folder, ["cat sat", "a good film", "the dog"]))
    with pytest.raises(UserError, match=r"has 3 label\(s\), the data has 1"):
        prepared(classifier(), train_file=str(file), validation_file=str(file), labels=None, regression=True)


@pytest.mark.parametrize(
    ("names", "task", "order"),
    [
        (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], ["entailment", "neutral", "contradiction"], [2, 1, 0]),
        (["a", "A"], ["A", "a"], [1, 0]),
        (["LABEL_0", "LABEL_1"], ["no", "yes"], [0, 1]),
        (["0", "1"], ["no", "yes"], [0, 1]),
        (None, ["no", "yes"], [0, 1]),
    ],
)
def test_order_of_the_classes(names, task, order):
    found, note = label_order("t", names, len(task), task)
    assert found == order
    assert (note is None) == ({n.lower() for n in names or ()} == {n.lower() for n in task})


@pytest.mark.parametrize(
    ("names", "task"),
    [(["negative", "positive"], ["no", "yes"]), (["a", "b", "c"], ["a", "b"]), (["LABEL_1", "LABEL_0"], ["a", "b"])],
)
def test_classes_that_do_not_match_are_shown(names, task):
    with pytest.raises(UserError, match=r"^teacher 'org/t'.*" + ", ".join(names) + ".*" + ", ".join(task)):
        label_order("org/t", names, len(names), task)


def cut_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def remove_tokenizer(folder):
    """transformers would go on with one that knows no word."""
    for file in folder.glob("*token*"):
        file.unlink()


def save_bare_encoder(folder):
    encoder = MultiExitModule(encoder_config=tiny_config("bert")).model.encoder
    encoder.config.id2label = dict(enumerate(NAMES))
    encoder.save_pretrained(folder)


def save_with_few_positions(folder):
    config = AutoConfig.from_pretrained(folder, max_position_embeddings=8)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (save_bare_encoder, "is no trained classifier: it has no weights for .*classifier.bias"),
        (cut_weights, ": the files are not usable"),
        (remove_tokenizer, ": cannot load the tokenizer .*: there are no files of one"),
        (lambda f: save_tokenizer(f, list(map(str, range(60))) + WORDS), "knows 50 tokens, .* gives token 74"),
        (save_with_few_positions, "takes at most 8 tokens, but a row has 1[0-9];"),
    ],
)
def test_folders_that_cannot_teach_are_named(classifier, prepared, damage, text):
    folder = classifier()
    damage(Path(folder))
    with pytest.raises(UserError, match=f"teacher '{folder}' ?{text}"):
        prepared(folder)


def test_teachers_that_are_not_there_are_named(prepared, tmp_path):
    for given in ("nobody/nothing", str(tmp_path / "no/such/folder"), str(tmp_path / "missing.ckpt")):
        with pytest.raises(UserError, match=f"teacher '{given}'"):
            prepared(given)
    (tmp_path / "damaged.ckpt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"^teacher .* cannot be loaded: .*damaged.ckpt is not a readable checkpoint"):
        prepared(str(tmp_path / "damaged.ckpt"))


def test_plain_loaders_are_refused(classifier):
    with pytest.raises(UserError, match=r"teacher .* reads the texts .* plain loaders"):
        TeacherLogits(classifier()).prepare(quiet_trainer())


def test_a_class_that_was_not_imported_is_not_looked_for(prepared, tmp_path):
    checkpoint_of(MultiExitModule, tmp_path / "own.ckpt")
    content = torch.load(tmp_path / "own.ckpt", weights_only=True)
    content["hyper_parameters"] |= {
        "_class_path": "somewhere.Else",
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }
    torch.save(content, tmp_path / "own.ckpt")
    with pytest.raises(UserError, match=r"teacher .*own.ckpt' cannot be loaded.*'somewhere.Else'.*imported"):
        prepared(str(tmp_path / "own.ckpt"))


def test_a_checkpoint_of_a_run_brings_names_and_tokenizer(here, prepared, data):
    """The command line's checkpoints name their class, and beside them is the model folder."""
    made, settings = data(), experiment(encoder_config=tiny_config("bert"))
    files = {"train_file": made.files["train"], "validation_file": made.files["train"]}
    own = {"tokenizer": made.tokenizer_name, "max_length": 16, "labels": ["odd", "bad", "good"]}
    settings["data"] = {"class_path": "mebert.TextDataModule", "init_args": files | own}
    settings["trainer"]["max_epochs"] = 1
    write_config(here, settings | {"test_after_fit": False})
    assert run("fit", "--config", "tiny.yaml") == 0
    best = newest(here) / "checkpoints/best.ckpt"
    teacher, made = prepared(str(best))
    module = ProtoExitModule.load_from_checkpoint(best).eval()
    torch.testing.assert_close(teacher.logits, last_exit(module, made)[:, [1, 2, 0]], **CLOSE)
