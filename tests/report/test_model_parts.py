"""The table of a model's parts: nothing counted twice or forgotten, the same FLOPs as in the logs."""

import pytest
import torch
from runs import newest, read_csv, run, write_config
from tiny import SIZES, tiny_model

from mebert.models.flops import exit_flops
from mebert.policies import Entropy
from mebert.report.model_parts import model_parts


@pytest.mark.parametrize("family", SIZES)
@pytest.mark.parametrize("settings", [{}, {"head": "shared"}, {"exit_scorer": torch.nn.Linear(32, 1)}])
def test_parts_add_up_to_all_parameters(family, settings):
    model = tiny_model(family, **settings)
    parts = model_parts(model, torch.tensor([5, 9]))
    total = sum(parameter.numel() for parameter in model.parameters())  # torch counts shared ones once
    by_exit = sum(part.layer_parameters + part.exit_parameters for part in parts.exits)
    assert parts.total == total == parts.embeddings + by_exit + parts.others
    embeddings = [n for n, p in model.encoder.named_parameters() if "embed" in n]
    assert parts.embeddings == sum(dict(model.encoder.named_parameters())[name].numel() for name in embeddings)
    if family != "albert":  # whose layers are the same
        layer = parts.exits[0].layer_parameters
        less = 32 if family == "modernbert" else 0  # whose first layer reads what the embeddings have normalised
        assert [part.layer_parameters - less for part in parts.exits[1:]] == [layer] * (model.num_layers - 1)
        scorer = list(settings.get("exit_scorer", torch.nn.Identity()).parameters())
        named = model.encoder.named_parameters()
        shared = [
            p for name, p in named if not {"layer", "layers"} & {*name.split(".")} and "embed" not in name
        ]  # a last norm, a bias
        assert parts.others == sum(p.numel() for p in scorer + shared)
    else:
        assert parts.others > 0


def test_costs_are_means_over_the_lengths():
    model = tiny_model(exit_layers=[1, 3])
    lengths = torch.tensor([4, 4, 9, 64, 200])  # the model reads 64
    policy = Entropy(0.5).bind(model)
    parts = model_parts(model, lengths, policy)
    each = torch.stack([exit_flops(model, torch.tensor([n]), policy)[:, 0] for n in (4, 4, 9, 64, 64)])
    costs = torch.tensor([part.gflops for part in parts.exits], dtype=torch.float64)
    torch.testing.assert_close(costs, each.mean(0) / 1e9, rtol=1e-6, atol=0)
    assert [part.layers for part in parts.exits] == [range(1, 2), range(2, 4)]
    assert parts.exits[1].speedup < 1 < parts.exits[0].speedup, "asking exit 1 first costs a little"


def test_the_report_has_the_costs_that_are_logged(here, monkeypatch):
    write_config(here)
    said = []
    monkeypatch.setattr("mebert.callbacks.exit_summary.rank_zero_info", said.append)
    assert run("fit", "--config", "tiny.yaml", "--test_after_fit", "false") == 0
    report = (newest(here) / "report.md").read_text(encoding="utf-8")
    assert "## Model: ProtoExitModule, bert, 3 exits on 3 layers, 3 labels" in report
    assert "the 41 rows of the split val (" in report
    rows = [row for row in read_csv(newest(here) / "metrics.csv") if row.get("val/exit_01/gflops")]
    for number in (1, 2, 3):
        logged = float(rows[0][f"val/exit_{number:02d}/gflops"])
        line = next(line for line in report.splitlines() if line.startswith(f"| layer {number}, exit {number} |"))
        assert f"{logged:#.3g}" in line.split()
    total = next(line for line in reversed(report.splitlines()) if line.startswith("| all |")).split(" | ")[1]
    (line,) = said
    assert line.split(" GFLOPs")[0].split(", ")[-2] == f"{total} parameters"
    assert "lengths of the 41 validation texts" in line
