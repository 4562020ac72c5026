"""Weights from files of several kinds, and what files that are none say."""

import sys
from types import ModuleType

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.config.errors import UserError
from engine.formats.weights_file import read_weights

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.ones(2, np.float32)}


@pytest.fixture
def file(tmp_path):
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_file_and_the_folder_of_a_checkpoint_hold_the_same(file):
    for path in (file, file.parent):
        found = read_weights(path)
        assert found.keys() == WEIGHTS.keys()
        for name, array in WEIGHTS.items():
            np.testing.assert_array_equal(found[name], array)


def test_other_floats_become_float32_and_what_is_no_float_is_passed_over(tmp_path):
    path = tmp_path / "mixed.safetensors"
    save_file({"half": np.float16([0.1]), "double": np.float64([0.1, 1e300]), "count": np.int64([3])}, path)
    found = read_weights(path)
    assert {name: array.dtype for name, array in found.items()} == {"half": "f4", "double": "f4"}
    assert list(found["double"]) == [np.float32(0.1), np.inf]
    assert found["half"] == np.float32(np.float16(0.1))


def test_a_torch_file_is_read_by_the_module_that_knows_it(tmp_path, monkeypatch):
    module = ModuleType("engine.formats.torch_file")
    module.read_torch = lambda path: {
        "fc.weight": np.full((2, 2), 0.5), "bn.num_batches_tracked": np.int64(7), "name": np.array(path.name)
    }  # fmt: skip
    monkeypatch.setitem(sys.modules, "engine.formats.torch_file", module)
    for ending in ("pth", "pt"):
        (tmp_path / f"net.{ending}").touch()
        found = read_weights(tmp_path / f"net.{ending}")
        assert found.keys() == {"fc.weight"}
        assert found["fc.weight"].dtype == np.float32


def bfloat16(path):
    header = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.safetensors", lambda _: None, r"none\.safetensors: cannot be read: No such file"),
        ("none.pth", lambda _: None, r"none\.pth: cannot be read: No such file"),
        ("", lambda _: None, r"model\.safetensors: cannot be read: No such file"),
        ("cut.safetensors", lambda path: path.write_bytes(b"\x01"), r"cut\.safetensors: cannot be read as s"),
        ("net.onnx", lambda path: path.touch(), r'has the ending "\.onnx"; must be one of \.safetens'),
        ("brain.safetensors", bfloat16, r"brain\.safetensors: holds bfloat16; must be float16, float32 or"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(UserError, match=message) as refused:
        read_weights(tmp_path / name)
    assert "\n" not in str(refused.value)
