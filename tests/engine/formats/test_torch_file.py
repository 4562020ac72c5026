"""Files of torch.save, read and written without torch; torch itself is asked where it is installed."""

import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.formats.torch_file import read_torch
from engine.formats.torch_pickle import read_pickle
from engine.formats.torch_writer import _number, torch_bytes
from tests.engine.formats.test_torch_pickle import Evil
from tests.engine.formats.torch_archives import one_tensor, write_archive

TENSORS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv.bias": np.float32([1, -2]),
    "scalar": np.float32(3).reshape(()),
    "empty": np.zeros((0, 4), np.float32),
}
SIX = np.arange(6, dtype=np.float32)


def assert_same(found, wanted):
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == tensor.shape
        np.testing.assert_array_equal(found[name], tensor)


def read(path):
    with pytest.raises(UserError) as caught:
        read_torch(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(f"{path}: ")


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(torch_bytes(TENSORS))
    assert_same(read_torch(path), TENSORS)


def test_equal_tensors_give_equal_bytes_and_their_order_counts():
    assert torch_bytes(TENSORS) == torch_bytes(dict(TENSORS))
    assert torch_bytes(TENSORS) != torch_bytes(dict(reversed(TENSORS.items())))


@pytest.mark.parametrize("mapped", [False, True])
def test_torch_loads_what_is_written(tmp_path, mapped):
    torch = pytest.importorskip("torch", reason="extra: bench")
    path = tmp_path / "model.pth"
    path.write_bytes(torch_bytes(TENSORS))
    loaded = torch.load(path, weights_only=True, mmap=mapped)
    assert type(loaded).__name__ == "OrderedDict"
    assert_same({name: tensor.numpy() for name, tensor in loaded.items()}, TENSORS)
    assert all(tensor.is_contiguous() for tensor in loaded.values())


def test_storages_lie_where_torch_can_map_them(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(torch_bytes(TENSORS))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            name, extra = (
                int.from_bytes(path.read_bytes()[entry.header_offset + at :][:2], "little") for at in (26, 28)
            )
            assert (entry.header_offset + 30 + name + extra) % 64 == 0


def test_a_size_beyond_31_bits_has_an_instruction_of_its_own():
    for size in (2**31 - 1, 2**31, 2**40):
        assert read_pickle(b"\x80\x02" + _number(size) + b".") == size


def test_torchs_own_files_are_read(tmp_path):
    torch = pytest.importorskip("torch", reason="extra: bench")
    base = torch.arange(24.0).reshape(4, 6)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(5, 2))
    tensors = {
        "turned": base.t(),
        "part": base[1:3, ::2],
        "half": base.half() / 3,
        "short": base.bfloat16() / 3,
        "double": base.double() / 3,
        "parameter": torch.nn.Parameter(base),
        "again": base,
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.0),
        **module.state_dict(),
    }
    path = tmp_path / "model.pth"
    torch.save(tensors, path)
    wanted = {
        name: each.detach().float().numpy() for name, each in tensors.items() if "num_batches" not in name
    }
    assert_same(read_torch(path), wanted)


@pytest.mark.parametrize("inside", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_found_in_a_checkpoint(tmp_path, inside, prefix):
    torch = pytest.importorskip("torch", reason="extra: bench")
    module = torch.nn.Linear(5, 2)
    state = {f"{prefix}{name}": tensor for name, tensor in module.state_dict().items()}
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9).state_dict()
    path = tmp_path / "model.pth"
    torch.save(state if inside is None else {"epoch": 3, inside: state, "optimizer": optimizer}, path)
    wanted = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    assert_same(read_torch(path), wanted)


def test_a_prefix_that_some_names_lack_stays(tmp_path):
    torch = pytest.importorskip("torch", reason="extra: bench")
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "model.pth")
    assert list(read_torch(tmp_path / "model.pth")) == ["module.a", "b"]


def test_a_tensor_is_a_view_of_its_storage(tmp_path):
    path = tmp_path / "model.pth"
    storages = {"0": SIX.tobytes()}
    for first, shape, strides, wanted in (
        (0, (2, 3), (3, 1), [[0, 1, 2], [3, 4, 5]]),
        (0, (3, 2), (1, 3), [[0, 3], [1, 4], [2, 5]]),
        (1, (2, 2), (3, 1), [[1, 2], [4, 5]]),
        (5, (), (), 5),
        (0, (0, 7), (7, 1), np.zeros((0, 7))),
    ):
        write_archive(path, one_tensor(first=first, shape=shape, strides=strides), storages)
        np.testing.assert_array_equal(read_torch(path)["weight"], np.array(wanted, np.float32))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("DoubleStorage", SIX.astype("<f8")),
        ("HalfStorage", SIX.astype("<f2")),
        ("BFloat16Storage", SIX.view("<u2")[1::2]),
    ],
)
def test_other_floating_point_becomes_float32(tmp_path, kind, values):
    path = write_archive(tmp_path / "model.pth", one_tensor(kind=kind), {"0": values.tobytes()})
    np.testing.assert_array_equal(read_torch(path)["weight"], SIX.reshape(2, 3))


def test_a_double_beyond_float32_is_infinite(tmp_path):
    values = np.full(6, 1e300)
    path = write_archive(tmp_path / "model.pth", one_tensor(kind="DoubleStorage"), {"0": values.tobytes()})
    assert np.isinf(read_torch(path)["weight"]).all()


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"shape": (3, 3)}, r"a tensor \[3, 3\] of a storage with 6 values"),
        ({"first": 1}, r"a tensor \[2, 3\] of a storage with 6 values"),
        ({"strides": (4, 1)}, r"a tensor \[2, 3\] of a storage with 6 values"),
        ({"shape": (10**9, 10**9), "strides": (0, 0)}, r"a tensor .* of a storage with 6 values"),
        ({"shape": (2,)}, r"a tensor of 1 axes with 2 strides"),
        ({"first": -1}, r"a tensor is described in another way"),
        ({"strides": (-3, 1)}, r"a tensor is described in another way"),
        ({"size": 10**12}, r"data/0 has 24 bytes, not 4000000000000"),
        ({"size": 7, "kind": "DoubleStorage"}, r"data/0 has 24 bytes, not 56"),
        ({"kind": "ComplexFloatStorage"}, r"it holds torch.ComplexFloatStorage, which is not read"),
        (
            {"kind": "LongStorage"},
            r"holds weight as int64; must be one of float64, float32, float16, bfloat16",
        ),
        ({"key": "../0"}, r"There is no item named 'archive/data/\.\./0'"),
    ],
    ids=str,
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(tmp_path, described, said):
    path = write_archive(tmp_path / "model.pth", one_tensor(**described), {"0": SIX.tobytes()})
    assert re.search(said, read(path))


def test_a_counter_of_steps_is_no_weight(tmp_path):
    pickled = one_tensor(kind="LongStorage", name="bn.num_batches_tracked")
    assert read_torch(write_archive(tmp_path / "model.pth", pickled)) == {}


def test_nothing_in_a_file_is_executed(tmp_path):
    path = write_archive(tmp_path / "model.pth", {"weight": Evil(tmp_path / "made")})
    assert read(path).startswith("it holds posix.system, which is not read, as nothing in a file is executed")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ([1, 2], "holds list; must be a state dict"),
        (
            {"epoch": 1, "net": {}},
            "has no state dict: it holds epoch, net; must be tensors by name, also inside",
        ),
        ({}, "has no state dict: it holds nothing; must be tensors by name"),
        ({"model": {"model": {}}}, "has no state dict: it holds nothing"),
    ],
    ids=str,
)
def test_what_is_no_state_dict_is_refused(tmp_path, root, said):
    assert read(write_archive(tmp_path / "model.pth", root)).startswith(said)


def test_an_entry_beside_the_tensors_is_named(tmp_path):
    pickled = one_tensor()[:-2] + b"X\x05\x00\x00\x00extraK\x05u."
    path = write_archive(tmp_path / "model.pth", pickled, {"0": SIX.tobytes()})
    assert read(path) == "holds int for extra; a state dict holds tensors only"


def test_a_tensor_beside_the_state_dict_is_that_of_the_training_program(tmp_path):
    beside, inside = one_tensor(name="best", shape=(), strides=()), one_tensor()
    pickled = beside[:-2] + b"X\x05\x00\x00\x00model" + inside[2:-1] + b"u."
    path = write_archive(tmp_path / "model.pth", pickled, {"0": SIX.tobytes()})
    assert_same(read_torch(path), {"weight": SIX.reshape(2, 3)})


def test_a_storage_that_is_described_in_another_way_is_refused(tmp_path):
    pickled = one_tensor().replace(b"storage", b"memory.")
    path = write_archive(tmp_path / "model.pth", pickled, {"0": SIX.tobytes()})
    assert read(path) == "its pickle is damaged: TypeError: a storage is described in another way"


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    root: dict[str, object] = {}
    root["model"] = root
    assert read(write_archive(tmp_path / "model.pth", root)).startswith("is cut or damaged")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; a file of torch.save is wanted"),
        (b"text", "is neither a zip file nor a pickle; a file of torch.save"),
        (pickle.dumps({"a": 1}, protocol=2), "is a pickle, but not one of torch.save"),
        (bytes(257) + b"ustar" + bytes(250), "is a tar archive, as torch wrote before"),
        (b"PK\x03\x04" + bytes(100), "is cut or damaged: File is not a zip file"),
    ],
    ids=["empty", "text", "pickle", "tar", "zip"],
)
def test_other_formats_are_named(tmp_path, content, said):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    assert read(path).startswith(said)


def old_file(*, magic=0x1950A86A20F9469CFC6C, little=True, root=None, keys=("0",), values=(6,), content=None):
    """Return a file as torch wrote it before its version 1.6."""
    begin = (magic, 1001, {"protocol_version": 1001, "little_endian": little, "type_sizes": {}})
    pickles = [pickle.dumps(each, protocol=2) for each in begin] + [one_tensor() if root is None else root]
    pickles.append(pickle.dumps(list(keys), protocol=2))
    storages = [
        struct.pack("<q", count) + (SIX.tobytes() if content is None else content) for count in values
    ]
    return b"".join(pickles + storages)


def test_a_file_from_before_torch_1_6_is_read(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(old_file())
    assert_same(read_torch(path), {"weight": SIX.reshape(2, 3)})


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"magic": 1}, "is a pickle, but not one of torch.save"),
        ({"little": False}, "has the byte order big; must be little"),
        ({"values": (5,)}, "is cut or damaged: the storage 0 has 5 values, not 6"),
        ({"content": SIX.tobytes()[:-1]}, "is cut or damaged: data/0 has 23 bytes, not 24"),
        ({"keys": ("1",)}, "is cut or damaged: 1"),
        ({"keys": ()}, "is cut or damaged: 0"),
        ({"values": ()}, "is cut or damaged: unpack requires a buffer of 8 bytes"),
    ],
    ids=str,
)
def test_a_damaged_file_from_before_torch_1_6_is_refused(tmp_path, described, said):
    path = tmp_path / "old.pth"
    path.write_bytes(old_file(**described))
    assert read(path) == said


def test_a_cut_file_from_before_torch_1_6_is_refused_wherever_it_is_cut(tmp_path):
    path, content = tmp_path / "old.pth", old_file()
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        read(path)


def test_what_torch_wrote_in_its_old_format_is_read(tmp_path):
    torch = pytest.importorskip("torch", reason="extra: bench")
    x = torch.arange(12.0).reshape(3, 4)
    saved = {"whole": x, "part": x[1:, ::2], "half": x.half(), "bn.num_batches_tracked": torch.tensor(3)}
    torch.save(saved, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    wanted = {name: each.float().numpy() for name, each in saved.items() if "tracked" not in name}
    assert_same(read_torch(tmp_path / "old.pth"), wanted)


def test_other_archives_are_named(tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "")
    assert read(path) == "is a zip file, but not one of torch.save: it has no data.pkl"
    write_archive(path, one_tensor(), {"0": SIX.tobytes()}, **{"constants.pkl": b""})
    assert read(path).startswith("is a program of TorchScript; save its state_dict()")
    write_archive(path, one_tensor(), {"0": SIX.tobytes()}, byteorder=b"big")
    assert read(path) == "has the byte order big; must be little"


def test_a_compressed_archive_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", one_tensor())
        archive.writestr("archive/data/0", bytes(10**8))
    assert read(path) == "is cut or damaged: data.pkl is compressed, which torch.save never does"


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path):
    path, content = tmp_path / "model.pth", torch_bytes(TENSORS)
    for end in range(0, len(content), 37):
        path.write_bytes(content[:end])
        read(path)


def test_a_changed_bit_in_a_storage_is_noticed(tmp_path):
    path, content = tmp_path / "model.pth", bytearray(torch_bytes(TENSORS))
    content[content.index(TENSORS["conv.weight"].tobytes()) + 5] ^= 4
    path.write_bytes(content)
    assert read(path) == "is cut or damaged: Bad CRC-32 for file 'archive/data/0'"


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"model\.pth: cannot be read: No such file or directory$"):
        read_torch(tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory$"):
        read_torch(tmp_path)
