"""Files of safetensors."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

from engine.config.errors import UserError
from engine.formats.safetensors_file import read_safetensors, safetensors_bytes

SIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def by_hand(kind: str, content: bytes, shape=(2, 3)) -> bytes:
    header = json.dumps({"a": {"dtype": kind, "shape": shape, "data_offsets": [0, len(content)]}}).encode()
    return len(header).to_bytes(8, "little") + header + content


def test_what_is_written_is_read_here_and_elsewhere(tmp_path):
    content = safetensors_bytes({"a": SIX, "b": SIX.T.copy()}, {"model": "m"})
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for found in (read_safetensors(path), load(content)):
        np.testing.assert_array_equal(found["a"], SIX)
        np.testing.assert_array_equal(found["b"], SIX.T)
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt", "model": "m"}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("F64", SIX.astype("<f8")),
        ("F32", SIX),
        ("F16", SIX.astype("<f2")),
        ("BF16", SIX.view("<u2").reshape(2, 3, 2)[..., 1]),
    ],
)
def test_all_floating_point_becomes_float32(tmp_path, kind, values):
    path = tmp_path / "model.safetensors"
    path.write_bytes(by_hand(kind, values.tobytes()))
    found = read_safetensors(path)["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, SIX)


def test_what_is_no_weight_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"a": np.arange(3)}))
    with pytest.raises(UserError, match=r"holds a as I64; must be one of F64, F32, F16, BF16$"):
        read_safetensors(path)
    for content in (b"", b"text" * 10, by_hand("F32", SIX.tobytes())[:-3]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"model.safetensors: cannot be read as safetensors: "):
            read_safetensors(path)
    with pytest.raises(UserError, match=r"none: cannot be read: No such file"):
        read_safetensors(tmp_path / "none")
