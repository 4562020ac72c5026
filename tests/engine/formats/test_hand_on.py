"""Writing a trained network for other programs."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from engine.config.errors import UserError
from engine.formats import hand_on as module
from engine.formats.hand_on import FORMATS, Export, format_of, hand_on
from engine.formats.names import Names
from engine.formats.onnx_file import OnnxOptions
from engine.formats.safetensors_file import read_safetensors
from engine.formats.torch_file import read_torch
from tests.engine import graphs
from tests.engine.broken_disk import BrokenDisk
from tests.engine.formats.networks import changed, drawn

pytest.importorskip("onnx", reason="extra: export")
pytest.importorskip("onnxruntime", reason="extra: export")


@pytest.fixture(scope="module")
def trained():
    return drawn(graphs.perceptron())


def test_the_ending_says_the_format_unless_it_is_said():
    for name, wanted in (
        ("a.onnx", "onnx"),
        ("a.pth", "torch"),
        ("a.pt", "torch"),
        ("a.safetensors", "safetensors"),
    ):
        assert format_of(Path(name), None) == wanted
    assert format_of(Path("a.bin"), "torch") == "torch"
    with pytest.raises(
        UserError, match=r"^a\.bin: its ending says no format; must be one of \.onnx, \.pth, "
    ):
        format_of(Path("a.bin"), None)
    with pytest.raises(UserError, match=r'^to: got "onx"; must be one of onnx, torch, safetensors$'):
        format_of(Path("a.onnx"), "onx")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_written_and_described(tmp_path, trained, form):
    path = tmp_path / "model"
    first, *others = hand_on(trained, Export(path, form))
    assert first.startswith(f"{path}: ")
    assert first.endswith(" MB")
    assert others
    assert list(tmp_path.iterdir()) == [path]


def test_weights_have_our_names_or_those_of_a_table(tmp_path, trained):
    theirs = {name: f"net.{name}" for name in trained.tensors}
    for read, form in ((read_torch, "torch"), (read_safetensors, "safetensors")):
        for names in (None, Names("a table", theirs)):
            path = tmp_path / f"{form}-{names is None}"
            source = "the network's own names" if names is None else "a table"
            assert hand_on(trained, Export(path, form, names))[1] == f"names: {source}"
            found = read(path)
            for name, tensor in trained.tensors.items():
                np.testing.assert_array_equal(found[name if names is None else theirs[name]], tensor)
            assert len(found) == len(trained.tensors)


def test_velocities_stay_behind(tmp_path, trained):
    more = replace(trained, tensors={**trained.tensors, "momentum.fc1.bias": np.zeros(20, np.float32)})
    hand_on(more, Export(tmp_path / "model", "safetensors"))
    assert read_safetensors(tmp_path / "model").keys() == trained.tensors.keys()


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_said_of_a_network_may_be_any_text(tmp_path, trained, form):
    odd = replace(trained, about={"model": "\ud800\n", "weights_sha256": "\udcff"})
    hand_on(odd, Export(tmp_path / "model", form))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_safetensors_say_what_is_known(tmp_path, trained):
    hand_on(trained, Export(tmp_path / "model", "safetensors"))
    with safe_open(tmp_path / "model", "numpy") as file:
        assert file.metadata() == {"format": "pt", "model": "drawn"}


def test_options_that_a_format_does_not_have_are_refused(tmp_path, trained):
    path = tmp_path / "model"
    for form in ("torch", "safetensors"):
        with pytest.raises(
            UserError, match=r"^softmax, preprocess and opset: only an ONNX file holds the network"
        ):
            hand_on(trained, Export(path, form, onnx=OnnxOptions(softmax=True)))
    with pytest.raises(UserError, match=r"^names: an ONNX file keeps the names of the network"):
        hand_on(trained, Export(path, "onnx", Names("a table", {})))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_written(tmp_path, trained):
    path = tmp_path / "model"
    path.write_text("mine")
    with pytest.raises(UserError, match="nothing is written"):
        hand_on(changed(trained, "fc1.weight"), Export(path, "onnx", overwrite=True))
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_without_onnx_runtime_it_says_that_nothing_was_compared(tmp_path, trained, monkeypatch):
    monkeypatch.setattr(module, "can_check", lambda: False)
    assert hand_on(trained, Export(tmp_path / "model", "onnx"))[-1].startswith(
        "not compared with the engine: pip "
    )


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_what_was_there(tmp_path, trained, form, monkeypatch):
    path = tmp_path / "model"
    path.write_text("mine")
    with monkeypatch.context() as patch:
        BrokenDisk(tmp_path, breaks_at=2, kind="full").install(patch)
        with pytest.raises(UserError, match=f"model: cannot be written: {os.strerror(errno.ENOSPC)}$"):
            hand_on(trained, Export(path, form, overwrite=True))
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
