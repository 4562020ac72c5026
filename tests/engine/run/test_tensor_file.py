"""Files of tensors written piece by piece: the bytes of safetensors, and sums that name what is damaged."""

from zlib import crc32

import numpy as np
import pytest
from safetensors.numpy import load, save

from engine.config.errors import UserError
from engine.run import tensor_file
from engine.run.checkpoint import save_checkpoint
from engine.run.state import State
from engine.run.tensor_file import HEADER, TensorFile, damaged_tensors
from engine.run.whole import check_whole
from engine.training.held import Held

RNG = np.random.default_rng(1)
TENSORS = {
    "b.weight": RNG.standard_normal((7, 5), np.float32),
    "a": np.float32([1, np.nan, -0.0]),
    "é.none": np.zeros((0, 3), np.float32),
    "c": np.zeros((), np.float32),
    "transposed": RNG.standard_normal((6, 4), np.float32).T,
}


def written(file):
    return b"".join(bytes(piece) for piece in file.content())


@pytest.mark.parametrize("piece", [1 << 22, 16])
@pytest.mark.parametrize("about", [{}, {"lockstep": '{"a": "é\n"}'}])
@pytest.mark.parametrize("names", [(), ("a",), tuple(TENSORS)])
def test_the_bytes_are_those_of_safetensors(monkeypatch, piece, about, names):
    monkeypatch.setattr(tensor_file, "PIECE", piece)
    tensors = {name: TENSORS[name] for name in names}
    wanted = save({name: np.array(each, order="C") for name, each in tensors.items()}, about or None)
    file = TensorFile(tensors, about)
    assert written(file) == wanted
    assert (file.bytes, file.crc32) == (len(wanted), crc32(wanted))
    assert list(file.sums) == [HEADER, *sorted(names)]
    assert [*file.sums.values()][-1] == crc32(wanted)


def test_a_tensor_that_is_held_is_made_when_it_is_written():
    made = []

    def make():
        made.append(1)
        return TENSORS["b.weight"]

    file = TensorFile({"x": Held((7, 5), make)})
    assert not made
    assert load(written(file))["x"].tobytes() == TENSORS["b.weight"].tobytes()
    assert made == [1]


@pytest.mark.parametrize("piece", [1 << 22, 16])
def test_every_byte_that_is_changed_is_found_in_its_tensor_alone(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(tensor_file, "PIECE", piece)
    file, path = TensorFile(TENSORS), tmp_path / "x"
    content = written(file)
    path.write_bytes(content)
    assert damaged_tensors(path, file.sums) == []
    head = 8 + int.from_bytes(content[:8], "little")
    ends = np.cumsum([TENSORS[name].nbytes for name in sorted(TENSORS)]) + head
    for at in range(head - 40, len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])
        owner = sorted(TENSORS)[int(np.searchsorted(ends, at, "right"))] if at >= head else HEADER
        assert damaged_tensors(path, file.sums) == [owner]


@pytest.mark.parametrize(
    ("at", "said"), [((-1,), " in z"), ((-1, -21), " in a.b and 1 more"), ((20,), " in its header"), ((), "")]
)
def test_the_error_names_the_damaged_tensors(tmp_path, at, said):
    tensors = {"a.b": np.ones(4, np.float32), "z": np.ones(5, np.float32)}
    path = save_checkpoint(tmp_path, State(1, "", ""), tensors, tensors)
    content = bytearray((path / "optimizer.safetensors").read_bytes())
    for place in at:
        content[place] ^= 1
    (path / "optimizer.safetensors").write_bytes(content)
    if not at:
        check_whole(path)
        return
    with pytest.raises(UserError, match=rf"optimizer\.safetensors: (is damaged{said}: has bytes|cannot be)"):
        check_whole(path)
