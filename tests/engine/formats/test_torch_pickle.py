"""The stack machine for pickles, which executes nothing."""

import io
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path

import pytest

from engine.formats import torch_pickle
from engine.formats.torch_pickle import PickleError, read_pickle

PLAIN = {
    "epoch": 3,
    "numbers": [0, 255, 256, 70_000, -5, 2**70, 1.5, True, False, None],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "long": "x" * 300,
    "nested": {"a": {1: [], 2.5: {}}},
    "again": ["same", "same"],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_as_they_are(protocol):
    assert read_pickle(pickle.dumps(PLAIN, protocol=protocol)) == PLAIN


@pytest.mark.parametrize("protocol", [2, 4])
def test_an_ordered_dict_is_a_dict_in_its_order(protocol):
    ordered = OrderedDict(b=1, a=OrderedDict())
    found = read_pickle(pickle.dumps(ordered, protocol=protocol))
    assert found == {"b": 1, "a": {}}
    assert list(found) == ["b", "a"]


def test_what_is_attached_to_a_dict_is_dropped():
    ordered = OrderedDict(a=1)
    ordered._metadata = OrderedDict(version=1)
    assert read_pickle(pickle.dumps(ordered, protocol=2)) == {"a": 1}


class Evil:
    """Unpickled by pickle it makes a file."""

    def __init__(self, path: Path, function: object = os.system):
        self._path, self._function = path, function

    def __reduce__(self):
        return self._function, (f"touch {self._path}",)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.system, eval, io.open, pickle.loads])
def test_a_function_is_named_and_not_called(tmp_path, protocol, function):
    content = pickle.dumps({"a": Evil(tmp_path / "made", function)}, protocol=protocol)
    with pytest.raises(
        PickleError, match=r"^it holds \w+\.\w+, which is not read, as nothing .* is executed"
    ):
        read_pickle(content)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n.",  # INST
        b"\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",  # NEWOBJ
        b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",  # BUILD of a name
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02ctorch\nSize\nK\x01R.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n(K\x01\x89K\x02tR.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))\x89NtR.",
        b"\x80\x02K\x01)R.",
        b"\x80\x02K\x01K\x02sK\x01.",
        b"\x80\x02](e(.",
        b"\x80\x02h\x05.",  # a place of the memo that was never written
        b"\x80\x02}(K\x01u.",
        b"\x80\x02})K\x01s.",  # a tuple as a key
        b"\x80\x02K\x01Q.",
        b"\x80\x02.",
        b"\x80\x02}",
        b"",
        b"\x80\x02\x8a\xff.",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02\x8f.",  # EMPTY_SET
        b"\x80\x02I1\n.",
        b"no pickle",
    ],
    ids=repr,
)
def test_what_no_state_dict_is_made_of_is_refused(content):
    with pytest.raises(PickleError, match=r"^(its pickle|it holds) "):
        read_pickle(content)


def test_a_place_of_the_memo_costs_what_is_in_it():
    far = b"\xff\xff\xff\x7f"
    assert read_pickle(b"\x80\x02K\x05r" + far + b"K\x06j" + far + b".") == 5


def test_deep_nesting_is_read_or_refused():
    deep = b"\x80\x02" + b")" + b"\x85" * 50_000 + b"."
    assert type(read_pickle(deep)) is tuple
    with pytest.raises(PickleError):
        read_pickle(b"\x80\x02}" + b")" + b"\x85" * 50_000 + b"K\x01s.")


def test_every_instruction_that_is_known_exists():
    known = {*torch_pickle._NOTHING, *torch_pickle._CONSTANTS, *torch_pickle._LITERALS, *torch_pickle._WORK}
    assert known <= {each.name for each in pickletools.opcodes}
