"""Tar shards in WebDataset's conventions: members, labels, splits, and what is wrong with them."""

import gzip
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import DataError
from engine.data.readers import stored_images
from engine.data.readers.image_folder import open_image_folder
from engine.data.readers.open_files import OpenFiles
from engine.data.readers.tar_members import TarMembers
from engine.data.readers.webdataset import WebDataset, open_webdataset
from tests.engine.data.files import read_all
from tests.engine.data.packed import encoded, write_shard, write_tar

SHAPE = (3, 8, 8)


def test_samples_are_those_of_a_folder_in_the_order_of_shards(tmp_path: Path) -> None:
    samples = encoded(6)
    for index, (content, label) in enumerate(sorted(samples, key=lambda each: each[1])):
        path = tmp_path / "folder" / "ab"[label] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    ordered = sorted(samples, key=lambda each: each[1])
    write_shard(tmp_path / "shards" / "train-00.tar", ordered[:4])
    write_shard(tmp_path / "shards" / "train-01.tar", ordered[4:])
    x, labels = read_all(open_webdataset(tmp_path / "shards", SHAPE).train)
    expected, expected_labels = read_all(open_image_folder(tmp_path / "folder", SHAPE).train)
    np.testing.assert_array_equal(x, expected)
    assert labels == expected_labels


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_and_places_are_those_of_pythons_own_reader(tmp_path: Path, form: int) -> None:
    names = ["a.jpg", "some/" + "folder/" * 20 + "b.jpg", "c" * 90 + ".jpg"]
    if form != tarfile.USTAR_FORMAT:
        names += ["n" * 300 + ".jpg", "k\u00e4fer.jpg"]
    write_tar(
        tmp_path / "x.tar",
        {name: bytes([place]) * (600 * place) for place, name in enumerate(names)},
        form=form,
    )
    with tarfile.open(tmp_path / "x.tar") as archive:
        expected = [(each.name.encode(), each.offset_data, each.size) for each in archive]
    assert list(TarMembers(OpenFiles([tmp_path / "x.tar"]), 0)) == expected


def test_labels_come_from_cls_or_json_or_names(tmp_path: Path) -> None:
    image = encoded(1)[0][0]
    (tmp_path / "classes.txt").write_text("ape\ncat\ndog\n")
    write_tar(
        tmp_path / "train.tar",
        {
            "a/1.cls": b"2\n", "a/1.jpg": image, "a/1.txt": b"a caption",
            "a/2.jpg": image, "a/2.json": b'{"label": 1, "width": 10}',
            "a/3.jpeg": image, "a/3.txt": b"ape",
            "b/1.JPG": image, "b/1.cls": b"cat", "b/1.seg.png": b"another kind",
            "._b": b"", "README": b"", "about.json": b"{}",
        },
    )  # fmt: skip
    source = open_webdataset(tmp_path, SHAPE)
    assert read_all(source.train)[1] == [2, 1, 0, 1]
    assert source.class_names == ("ape", "cat", "dog")
    assert source.notes == ("webdataset: passed over: 3 members that are no part of a sample with an image",)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-000.tar", "val-000.tar"),
        ("imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar"),
        ("train/0.tar", "test/0.tar"),
        ("data/train-0.tar", "data/test-0.tar"),
    ],
)
def test_splits_are_named_by_files_or_folders(tmp_path: Path, train: str, test: str) -> None:
    write_shard(tmp_path / train, encoded(5))
    write_shard(tmp_path / test, encoded(3))
    source = open_webdataset(tmp_path, SHAPE)
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (5, 3)


def test_fingerprint_is_of_names_and_labels_wherever_they_lie(tmp_path: Path) -> None:
    for place, samples in (("a", encoded(4)), ("b", encoded(4)), ("c", encoded(4, 3))):
        write_shard(tmp_path / place / "x.tar", samples)
    a, b, c = (open_webdataset(tmp_path / place, SHAPE).train.fingerprint() for place in "abc")
    assert a == b != c


def test_many_threads_read_from_fewer_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_images, "CACHE_BYTES", 0)
    for number in range(5):
        write_shard(tmp_path / f"{number}.tar", encoded(4, seed=number))
    train = open_webdataset(tmp_path, SHAPE).train
    assert isinstance(train, WebDataset)
    expected, _ = read_all(train)
    object.__setattr__(train, "opened", OpenFiles(train.opened.paths, most=1))
    order = np.random.default_rng(0).permutation(np.tile(np.arange(20), 10)).tolist()

    def read(index: int) -> np.ndarray:
        x = np.empty(SHAPE, np.float32)
        train.read(index, x)
        return x

    with ThreadPoolExecutor(4) as threads:
        np.testing.assert_array_equal(np.stack(list(threads.map(read, order))), expected[order])


IMAGE = encoded(1)[0][0]


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"1.jpg": IMAGE}, r"train.tar: 1.jpg: has no label beside it: .cls, .json with \"label\", or .txt"),
        (
            {"1.jpg": IMAGE, "1.cls": b"ape"},
            r'1.cls: says no label: label "ape" is no whole number and no class',
        ),
        ({"1.jpg": IMAGE, "1.json": b"[1]"}, r'1.json: says no label: no JSON with "label"'),
        ({"1.jpg": IMAGE, "1.png": IMAGE, "1.cls": b"0"}, "1.png: is a second image of one key"),
        (
            {"1.jpg": IMAGE, "1.cls": b"-1"},
            "train.tar: the member at byte 512: has label -1; must be from 0 to 0",
        ),
        ({"readme.md": b""}, "has no samples to train on"),
    ],
)
def test_a_wrong_shard_is_one_line(tmp_path: Path, members: dict[str, bytes], problem: str) -> None:
    write_tar(tmp_path / "train.tar", members)
    with pytest.raises(DataError, match=problem):
        open_webdataset(tmp_path, SHAPE)


def test_a_shard_that_is_cut_short_says_where(tmp_path: Path) -> None:
    path = tmp_path / "train.tar"
    write_shard(path, encoded(3))
    whole = path.read_bytes()
    for end in range(0, 6 * 512, 256):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"train.tar: (is cut short|ends at byte)"):
            open_webdataset(tmp_path, SHAPE)


def test_compressed_shards_are_to_be_decompressed(tmp_path: Path) -> None:
    write_shard(tmp_path / "train.tar", encoded(2))
    packed = gzip.compress((tmp_path / "train.tar").read_bytes())
    (tmp_path / "train.tar").unlink()
    for name in ("train.tar.gz", "train.tar"):
        (tmp_path / name).write_bytes(packed)
        with pytest.raises(DataError, match=rf"{name}: is compressed.*decompress it"):
            open_webdataset(tmp_path, SHAPE)
        (tmp_path / name).unlink()


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no .tar files, nor folders of splits"):
        open_webdataset(tmp_path, SHAPE)
    write_shard(tmp_path / "train-0.tar", encoded(2))
    write_shard(tmp_path / "more.tar", encoded(2))
    with pytest.raises(DataError, match=r"more.tar: says no split, while train-0.tar does"):
        open_webdataset(tmp_path, SHAPE)
