import pytest
from tiny import tiny_model

from mebert.errors import UserError
from mebert.policies import Entropy, PatientDivergence, PatientEntropy
from mebert.policies.stored_thresholds import checkpoint_threshold, store_thresholds, thresholds_beside
from mebert.storage.model_spec import ModelSpec


def test_the_model_folder_must_hold_the_checkpoints_exits(tmp_path):
    model = tiny_model()
    checkpoint = tmp_path / "checkpoints/best.ckpt"
    state = {f"model.{name}": value for name, value in model.state_dict().items()}

    def threshold(state, policy):
        return checkpoint_threshold(checkpoint, state, policy, {}, max_drop=0.01)

    with pytest.raises(UserError, match="no calibrated model folder"):
        threshold(state, Entropy())
    model.save_pretrained(tmp_path / "model", policy=Entropy())
    store_thresholds(tmp_path / "model", {"max_drops": {"entropy": {0.01: 0.25}}})
    assert threshold(state, Entropy(0.3)) == 0.25
    name = next(name for name in state if ".exits." in name)
    with pytest.raises(UserError, match="holds other exits than"):
        threshold({**state, name: state[name] + 1e-3}, Entropy())
    store_thresholds(tmp_path / "model", {}, use=PatientEntropy(0.4, patience=3))
    assert thresholds_beside(checkpoint, state, PatientEntropy(0.1, patience=3), {})[1] == {"entropy": {0.01: 0.25}}
    with pytest.raises(UserError, match="another pcee than"):
        threshold(state, PatientEntropy(0.4, patience=2))


def test_storing_keeps_the_rest_and_a_guarantee_wins(tmp_path):
    tiny_model().save_pretrained(tmp_path, policy=Entropy(0.4), operating_points={"entropy": {2.0: 0.5}})
    store_thresholds(tmp_path, {"operating_points": {"entropy": {3.0: 0.7}, "max_prob": {2.0: 0.1}}})
    store_thresholds(tmp_path, {"max_drops": {"entropy": {0.01: 0.3, 0.02: 0.35}}})
    store_thresholds(tmp_path, {"guarantees": {"entropy": {0.01: {"threshold": 0.2, "delta": 0.1}}}})
    spec = ModelSpec.read(tmp_path)
    assert spec.operating_points == {"entropy": {2.0: 0.5, 3.0: 0.7}, "max_prob": {2.0: 0.1}}
    assert spec.policy["init_args"]["threshold"] == 0.4
    assert spec.thresholds_for_max_drop() == {"entropy": {0.01: 0.2, 0.02: 0.35}}


def test_thresholds_go_with_the_settings_that_they_were_chosen_for(tmp_path):
    own = PatientEntropy(0.4, patience=3)
    tiny_model().save_pretrained(tmp_path, policy=own)
    everything = {name: {2.0: 0.5} for name in ("pcee", "entropy", "f_pabee")}
    store_thresholds(tmp_path, {"operating_points": everything, "max_drops": everything})

    def kept():
        spec = ModelSpec.read(tmp_path)
        assert {*spec.operating_points} == {*spec.max_drops}
        return {*spec.max_drops}

    def use(policy):
        return store_thresholds(tmp_path, {}, use=policy)

    assert use(own.with_threshold(0.1)) == [], "another threshold is no other rule"
    assert use(Entropy(0.2)) == ["pcee"], "by that name the plain one is meant from now on"
    assert kept() == {"entropy", "f_pabee"}
    assert use(PatientDivergence(0.2, patience=1)) == ["f_pabee"], "others were for the plain one"
    assert kept() == {"entropy"}
    assert ModelSpec.read(tmp_path).policy["init_args"]["patience"] == 1
