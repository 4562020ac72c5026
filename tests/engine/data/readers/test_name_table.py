"""Names in little memory: they come back as they were."""

import os
import sys

import pytest

from engine.data.readers.name_table import NameTable

NAMES = ("a/b.png", "", "ä/\N{SNOWMAN}.jpg", "\udcff\udce9.png", "line\nfeed", "a/b.png")


def test_names_of_any_bytes_come_back():
    table = NameTable(NAMES)
    table.append("last")
    assert list(table) == [*NAMES, "last"]
    assert (len(table), table[-1], table[2], table[-7]) == (7, "last", NAMES[2], "a/b.png")
    assert list(table[1:6:2]) == [*NAMES, "last"][1:6:2]
    assert list(NameTable()) == []
    assert list(table.encoded()) == [os.fsencode(name) for name in table]
    for index in (7, -8):
        with pytest.raises(IndexError):
            table[index]


def test_a_name_takes_its_bytes_and_eight_more():
    table = NameTable(f"n{number % 1000:08d}/image_{number:07d}.JPEG" for number in range(20_000))
    taken = sys.getsizeof(table._bytes) + sys.getsizeof(table._ends)
    assert taken < 1.3 * 20_000 * (len(table[0]) + 8)  # and room to grow
