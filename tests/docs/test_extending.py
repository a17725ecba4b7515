"""Every example of docs/extending.md: it computes what the page says, and works on the command line."""

from __future__ import annotations

import inspect
import json
import math
import re
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from runs import experiment, newest, run, write_config
from scipy import stats
from tiny import COMMON, tiny_batch

from mebert import EarlyExitClassifier, UserError
from mebert.cli.main import main
from mebert.inference import prepare_model
from mebert.inference.fused_families import fused_layers
from mebert.inference.unpadding import FusedAdapter
from mebert.models import SUPPORTED_FAMILIES, ExitOutputs, MultiExitModel, adapter_for, build_encoder
from mebert.models.encoder import EncoderAdapter, LayerParts
from mebert.models.mpnet import MPNetAdapter
from mebert.policies.base import policy_by_name

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
FILES = ("my_recipe", "my_rule", "my_measure", "my_pacing", "my_callback", "my_data", "my_family")


def examples() -> dict[str, str]:
    """Module name to the code that the page shows."""
    found = {}
    for name, block in re.findall(r"    # (my_\w+)\.py\n((?:    .*\n|\n)*)", PAGE.read_text(encoding="utf-8")):
        lines = [line[4:] for line in block.splitlines()]
        found[name] = "\n".join(line for line in lines if not line.startswith("python -m")).rstrip() + "\n"
    return found


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with the page's files, as the user's working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in examples().items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    return tmp_path


def example(module: str, name: str):
    return getattr(import_module(module), name)


def tiny_experiment(**init_args):
    settings = experiment(**init_args)
    settings["model"]["init_args"].pop("prototype_dim")
    settings["curve"]["wall_samples"] = 0
    return settings


def test_the_page_shows_them_all():
    assert tuple(examples()) == FILES


def test_recipe_is_the_formula(here):
    module = example("my_recipe", "AgreeingExits")(
        strength=2.0, encoder_config={**COMMON, "model_type": "bert", "num_hidden_layers": 3, "vocab_size": 50}
    )
    logits, labels = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 1])
    parts = module.compute_loss(ExitOutputs(logits, torch.zeros(3, 5, 4)), {"labels": labels})
    p = logits.softmax(-1).numpy()
    divergence = np.mean([stats.entropy(p[e + 1, b], p[e, b]) for e in range(2) for b in range(5)])
    cross_entropy = np.mean([-math.log(p[e, b, labels[b]]) for e in range(3) for b in range(5)])
    assert parts["agreement"].item() == pytest.approx(divergence, rel=1e-5)
    assert parts["loss"].item() == pytest.approx(cross_entropy + 2 * divergence, rel=1e-5)


def test_policy_is_the_formula(here):
    rule = example("my_rule", "Gini")(temperature=2.0)
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [2.0, 1.0, -1.0]])
    expected = []
    for row in (logits / 2).tolist():
        weights = [math.exp(value) for value in row]
        expected.append((1 - sum((w / sum(weights)) ** 2 for w in weights)) / (1 - 1 / 3))
    assert rule.score(0, logits, torch.zeros(3, 4)).tolist() == pytest.approx(expected, rel=1e-5)
    assert expected[0] == pytest.approx(1.0)


def test_recipe_policy_and_callback_train_and_calibrate(here, capsys):
    write_config(here, tiny_experiment())
    own = "--model my_recipe.AgreeingExits --model.strength 1 --model.policy my_rule.Gini --model.policy.temperature 2"
    status = run("fit", "--config", "tiny.yaml", *own.split(), "--trainer.callbacks+=my_callback.ExitAgreement")
    assert status == 0, capsys.readouterr().err
    folder = newest(here)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["policy"] == "gini"
    assert set(evaluation["area_under_curve"]) == {"gini", "entropy"}
    log = pd.read_csv(folder / "metrics.csv")
    assert (log["train/agreement"].dropna() >= 0).all()
    assert log["val/agreement"].dropna().between(0, 1).all()
    assert len(log["val/agreement"].dropna()) == 2
    assert main(["calibrate", "--model", str(folder), "--speedup", "1.5"]) == 0
    classify = EarlyExitClassifier.from_pretrained(folder, precision="float32")
    assert classify.policy.temperature == 2
    texts = [("anna can run", "ben can run  anna cannot dive"), ("nobody sees anything", "anna sees owls")]
    assert classify(texts, speedup=1.5, engine="full") == classify(texts, speedup=1.5)


def test_measures_are_the_formulas(here):
    answers = [[0, 0, 1], [0, 1, 0], [1, 1, 1], [0, 2, 0]]  # 4 rows, 3 exits
    logits = torch.nn.functional.one_hot(torch.tensor(answers), 3).float().transpose(0, 1)
    found = example("my_measure", "ChangesOfMind")().of_logits(logits, torch.zeros(4, dtype=torch.long))
    assert found.tolist() == [sum(a != b for a, b in pairwise(row)) / 2 for row in answers]

    class Split:
        tokens, offsets = np.array([1, 2, 3, 1, 2, 2, 1, 7]), np.array([0, 3, 7, 8])

    assert example("my_measure", "Repetition")().of_split(Split()).tolist() == [1.0, 0.5, 1.0]


def test_measures_and_pacing_order_the_training(here, capsys):
    settings = tiny_experiment()
    settings["model"]["class_path"] = "mebert.MultiExitModule"
    settings["data"]["class_path"] = "mebert.SyntheticCurriculumDataModule"
    settings["test_after_fit"] = False
    write_config(here, settings)
    own = (
        "--data.difficulty my_measure.ChangesOfMind --data.initial my_measure.Repetition --data.pacing my_pacing.Steep"
    )
    status = run("fit", "--config", "tiny.yaml", *own.split(), "--data.pacing.power", "3", "--data.pacing.until", "0.9")
    assert status == 0, capsys.readouterr().err
    log = pd.read_csv(newest(here) / "metrics.csv").dropna(subset="curriculum/share")
    first, second = log["curriculum/share"]
    # Half of the training is t = 0.5 / 0.9 of the curriculum; an epoch shows no more rows than are in use at its end.
    assert 0.1 <= first <= 0.1 + 0.9 * (0.5 / 0.9) ** 3 + 0.15
    assert second > first


def test_data_module_trains_and_is_broken_down_by_difficulty(here, capsys):
    from transformers import BertTokenizer

    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "x")
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(here / "tokenizer")
    settings = tiny_experiment()
    settings["model"]["class_path"] = "mebert.MultiExitModule"
    settings["data"] = {
        "class_path": "my_data.Parity",
        "init_args": {"size": 35, "tokenizer": "tokenizer", "max_length": 16},
    }
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0, capsys.readouterr().err
    evaluation = json.loads((newest(here) / "evaluation.json").read_text())
    assert evaluation["samples"] == 35
    assert [(g["group"], g["samples"]) for g in evaluation["leaving"][:7]] == [(str(k), 5) for k in range(1, 8)]


SIZES = {"num_hidden_layers": 3, "vocab_size": 80, "max_position_embeddings": 64}
SETTINGS = {**COMMON, **SIZES, "model_type": "data2vec-text"}


def test_the_pages_mpnet_is_the_adapter():
    """And so is checked as every family is, in `tests/models/` and `tests/inference/`."""
    shown = "".join(f"    {line}\n" if line else "\n" for line in inspect.getsource(MPNetAdapter).splitlines())
    assert shown in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("padded", [False, True])
def test_family_gives_hugging_faces_hidden_states(here, padded):
    import_module("my_family")
    torch.manual_seed(0)
    encoder, batch = build_encoder("unused", SETTINGS).eval(), tiny_batch(padded=padded)
    adapter = adapter_for(encoder)
    assert type(adapter).__name__ == "Data2VecAdapter"
    assert adapter.max_length == 62
    with torch.no_grad():
        expected = encoder(**batch, output_hidden_states=True).hidden_states
        state = adapter.start(**batch)
        for depth in range(1, 4):
            state = adapter.advance(state, depth)
            torch.testing.assert_close(state.hidden, expected[depth], rtol=0, atol=0)
        fast = prepare_model(MultiExitModel(encoder))
        assert isinstance(fast.adapter, FusedAdapter)
        hidden, mask = fast.adapter.advance(fast.start(**batch), 3).padded()
        torch.testing.assert_close(hidden[mask == 1], expected[3][batch["attention_mask"] == 1], rtol=0, atol=1e-5)


def test_a_family_with_a_layer_of_its_own_is_not_fused_by_anothers_parts(here):
    """Fused layers would not do what its `layer` does."""

    class Doubled(EncoderAdapter):
        def layer(self, index, hidden, mask):
            return 2 * super().layer(index, hidden, mask)

    class Named(Doubled):
        parts = LayerParts()

    encoder = build_encoder("unused", {**SETTINGS, "model_type": "bert"})
    for adapter, is_fused in ((EncoderAdapter, True), (Doubled, False), (Named, True)):
        assert (fused_layers(adapter(encoder)) is not None) == is_fused


def test_family_trains_and_is_opened_again(here, capsys):
    settings = tiny_experiment(encoder_config=SETTINGS)
    settings["model"]["class_path"] = "my_family.Data2VecExits"
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0, capsys.readouterr().err
    folder = newest(here)
    classify = EarlyExitClassifier.from_pretrained(folder / "model", precision="float32")
    assert classify.model.adapter.config.model_type == "data2vec-text"
    texts = [("anna can run", "ben can run  anna cannot dive")] * 3
    assert classify(texts, speedup=1.5, engine="full") == classify(texts, speedup=1.5)


def test_a_family_is_known_only_once_its_module_is_imported(here):
    """Before that the error lists ours; an adapter that merely inherits `families` does not count as one."""
    with pytest.raises(UserError, match=rf"'data2vec-text' is not supported.*{SUPPORTED_FAMILIES[-1]}$"):
        build_encoder("unused", SETTINGS)
    import_module("my_family")
    build_encoder("unused", SETTINGS)
    with pytest.raises(UserError, match=rf"{SUPPORTED_FAMILIES[-1]}, data2vec-text$"):
        build_encoder("unused", {**SETTINGS, "model_type": "gpt2"})
    assert "mebert.inference.unpadding" in sys.modules  # its FusedAdapter inherits BERT's families
    assert type(adapter_for(build_encoder("unused", {**SETTINGS, "model_type": "bert"}))).__name__ == "EncoderAdapter"


def test_a_policy_is_known_only_once_its_module_is_imported(here):
    with pytest.raises(UserError, match="'gini' is not known"):
        policy_by_name("gini")
    rules = import_module("my_rule")
    assert policy_by_name("gini") is rules.Gini
