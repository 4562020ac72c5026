"""LMDB databases: those that LMDB's own library writes, of any size, and damaged ones."""

from pathlib import Path

import lmdb
import numpy as np
import pytest

from engine.data.dataset import DataError
from engine.data.readers.lmdb_file import LmdbFile
from engine.data.readers.lmdb_images import open_lmdb
from engine.data.readers.open_files import OpenFiles
from tests.engine.data.files import random_bytes, read_all, write_image
from tests.engine.data.packed import caffe_pixels, encoded, write_caffe, write_lmdb

SHAPE = (3, 8, 8)


@pytest.mark.parametrize("count", [0, 1, 7, 3000])
def test_entries_are_those_of_lmdbs_own_reader(tmp_path: Path, count: int) -> None:
    sizes = [0, 3, 100, 1900, 2100, 4080, 4081, 9000]
    with lmdb.open(str(tmp_path), map_size=64 << 20, lock=False) as environment:
        for start in range(0, count, 1000):  # transactions leave old pages behind
            with environment.begin(write=True) as transaction:
                for index in range(start, min(count, start + 1000)):
                    transaction.put(
                        b"%d key" % (index * 7919 % 10007), bytes([index % 251]) * sizes[index % 8]
                    )
                if index % 2 and start:
                    transaction.delete(b"%d key" % (start * 7919 % 10007))
        with environment.begin() as transaction:
            expected = [(bytes(key), bytes(value)) for key, value in transaction.cursor()]
    database = LmdbFile(OpenFiles([tmp_path / "data.mdb"]), 0)
    assert [(key, database.read(offset, size)) for key, offset, size in database] == expected


def test_pixels_are_planes_of_blue_green_and_red(tmp_path: Path) -> None:
    pixels = random_bytes(4, 8, 8, 3)
    write_lmdb(tmp_path / "lmdb", {b"%08d" % i: caffe_pixels(each, i % 2) for i, each in enumerate(pixels)})
    x, labels = read_all(open_lmdb(tmp_path / "lmdb", SHAPE).train)
    assert labels == [0, 1, 0, 1]
    from engine.data.readers.image_folder import open_image_folder  # noqa: PLC0415

    for index, each in enumerate(pixels):
        write_image(tmp_path / "folder" / "ab"[index % 2] / f"{index}.png", each)
    expected, _ = read_all(open_image_folder(tmp_path / "folder", SHAPE).train)
    np.testing.assert_array_equal(x[[0, 2, 1, 3]], expected)


def test_caffes_databases_are_splits(tmp_path: Path) -> None:
    write_caffe(tmp_path / "ilsvrc12_train_lmdb", encoded(6))
    write_caffe(tmp_path / "ilsvrc12_val_lmdb", encoded(3))
    (tmp_path / "classes.txt").write_text("ape\ncat\n")
    source = open_lmdb(tmp_path, SHAPE)
    assert source.test is not None
    assert read_all(source.train)[1] == [0, 1, 0, 1, 0, 1]
    assert read_all(source.test)[1] == [0, 1, 0]
    assert source.class_names == ("ape", "cat")


def test_pairs_of_image_and_label_are_read(tmp_path: Path) -> None:
    samples = encoded(12)
    entries = {b"num-samples": b"12"}
    for number, (content, label) in enumerate(samples, 1):
        entries |= {b"image-%09d" % number: content, b"label-%09d" % number: b"%d" % label}
    write_lmdb(tmp_path / "pairs", entries)
    write_caffe(tmp_path / "caffe", samples)
    x, labels = read_all(open_lmdb(tmp_path / "pairs", SHAPE).train)
    expected, expected_labels = read_all(open_lmdb(tmp_path / "caffe", SHAPE).train)
    np.testing.assert_array_equal(x, expected)
    assert labels == expected_labels


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({b"a": b"no Datum at all"}, "entry a: is .*; read are Caffe's Datum"),
        ({b"a": b"\x28\x01"}, "entry a: is no Datum of an image with a label"),
        (
            {b"a": caffe_pixels(np.zeros((8, 8, 3), np.uint8), 0)[:-50]},
            "entry a: is a protocol buffer that is cut",
        ),
        ({b"image-000000001": b"x"}, "has 1 image and 0 labels"),
        ({b"image-000000002": b"x"}, "entry image-000000002: comes where number 1 must be"),
        ({}, "has no entries"),
    ],
)
def test_other_values_are_one_line(tmp_path: Path, entries: dict[bytes, bytes], problem: str) -> None:
    write_lmdb(tmp_path, entries)
    with pytest.raises(DataError, match=problem) as refused:
        open_lmdb(tmp_path, SHAPE)
    assert "data.mdb" in str(refused.value)


def test_pixels_of_a_wrong_number_are_refused_when_they_are_read(tmp_path: Path) -> None:
    wrong = bytearray(caffe_pixels(np.zeros((8, 8, 3), np.uint8), 0))
    wrong[3] = 9  # the height
    write_lmdb(tmp_path, {b"a": bytes(wrong)})
    train = open_lmdb(tmp_path, SHAPE).train
    with pytest.raises(DataError, match=r"data.mdb: entry 0: has 192 bytes of pixels for \(3, 9, 8\)"):
        train.read(0, np.empty(SHAPE, np.float32))


def test_a_database_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    write_caffe(tmp_path, encoded(40))
    path = tmp_path / "data.mdb"
    whole = path.read_bytes()
    for end in (0, 100, 4096, 8192, len(whole) // 2):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"data.mdb: .*damaged or cut short|data.mdb: ends before"):
            open_lmdb(tmp_path, SHAPE)
