"""Two runs side by side."""

import json
import shutil

import lockstep
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file


def test_runs_that_differ_are_compared_field_by_field(digits_run, tmp_path):
    other = lockstep.train(
        "digits", epochs=3, threads=1, changes={"schedule.rate": 0.1}, out=str(tmp_path / "b")
    )
    found = lockstep.compare(digits_run, other)
    assert found.recipe == {"keep_best": ("test_accuracy", "off"), "schedule.rate": (0.05, 0.1)}
    assert not found.same_weights
    one, two = digits_run.weights["fc5.weight"], other.weights["fc5.weight"]
    assert found.differences["fc5.weight"] == np.abs(one.astype(np.float64) - two).max()
    assert found.figures["test_loss"] == (digits_run.results["test_loss"], other.results["test_loss"])
    lines = str(found).splitlines()
    assert ["schedule.rate", "0.05", "0.1"] in [line.split() for line in lines]
    assert "weights: 10 of 10 tensors differ, by at most" in lines
    assert max(map(len, lines)) < 400  # no tables inside tables


def test_the_same_weights_are_the_same_to_the_bit_and_one_bit_is_not(digits_run, tmp_path):
    model = lockstep.load(digits_run.checkpoint)
    assert lockstep.compare(model, str(digits_run.folder)).same_weights
    copy = shutil.copytree(digits_run.checkpoint, tmp_path / "copy")
    tensors = load_file(copy / "model.safetensors")
    weight = tensors["fc5.weight"]
    weight[0, 0] = np.nextafter(weight[0, 0], np.float32(1))
    tensors["fc5.bias"] = tensors["fc5.bias"][:4].copy()
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(lockstep.UserError, match=r"model.safetensors: is damaged in its header: has "):
        lockstep.compare(digits_run, copy)
    state = json.loads((copy / "state.json").read_text())
    (copy / "state.json").write_text(json.dumps({**state, "files": None}))
    found = lockstep.compare(digits_run, copy)
    assert not found.same_weights
    assert 0 < found.differences["fc5.weight"] < 1e-6
    assert found.differences["fc5.bias"] is None
    assert found.differences["conv1.weight"] == 0
    assert found.figures["test_loss"][1] is None
    assert str(found).splitlines()[-4:] == [
        "recipe: the same", "weights: 2 of 10 tensors differ, by at most",
        "  fc5.bias  another shape, or in one only", f"  fc5.weight  {found.differences['fc5.weight']:.3g}",
    ]  # fmt: skip


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(lockstep.UserError, match=r"checkpoint: .* holds no checkpoint"):
        lockstep.compare(tmp_path, tmp_path)
    with pytest.raises(
        lockstep.UserError, match="compare: got int; must be a run, a model, or the path of one"
    ):
        lockstep.compare(3, tmp_path)
