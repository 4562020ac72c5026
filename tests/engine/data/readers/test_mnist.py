"""The IDX reader: what was written comes back, and what is wrong is named."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import DataError
from engine.data.readers import in_memory
from engine.data.readers.mnist import open_mnist
from tests.engine.data.files import idx_bytes, random_bytes, read_all, write_mnist


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("separator", ["-", "."])
def test_reads_what_was_written(tmp_path: Path, separator: str, zipped: bool) -> None:
    written = [
        write_mnist(tmp_path, split=split, samples=samples, separator=separator, zipped=zipped, seed=samples)
        for split, samples in (("train", 7), ("t10k", 3))
    ]
    source = open_mnist(tmp_path)
    assert source.test is not None
    for dataset, (pixels, labels) in zip((source.train, source.test), written, strict=True):
        x, read_labels = read_all(dataset)
        assert dataset.sample_shape == (1, 28, 28)
        assert read_labels == labels.tolist()
        np.testing.assert_allclose(x[:, 0], (pixels / 255 - 0.1307) / 0.3081, rtol=0, atol=2e-6)


def test_unpacked_file_may_keep_its_gz_name(tmp_path: Path) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    path = tmp_path / "train-images-idx3-ubyte"
    path.rename(path.with_name(path.name + ".gz"))
    assert len(open_mnist(tmp_path).train) == 4


def test_test_set_is_optional(tmp_path: Path) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    assert open_mnist(tmp_path).test is None


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (IMAGES, b"", "0 bytes"),
        (IMAGES, idx_bytes(random_bytes(4)) + bytes(20), "starts with 00000801"),
        (IMAGES, idx_bytes(random_bytes(0, 28, 28)), "holds nothing"),
        (IMAGES, idx_bytes(random_bytes(4, 28, 28))[:-1], "3151 bytes; its shape .* needs 3152"),
        (IMAGES, idx_bytes(random_bytes(4, 28, 28)) + b"x", "3153 bytes"),
        (IMAGES, b"\x1f\x8b" + bytes(50), "cannot be read"),
        (IMAGES, gzip.compress(idx_bytes(random_bytes(4, 28, 28)), mtime=0)[:-20], "cannot be read"),
        (IMAGES, gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 1000, mtime=0), "1004 bytes; its shape"),
        (LABELS, idx_bytes(random_bytes(3, high=10)), "3 labels for 4 images"),
        (LABELS, idx_bytes(np.array([1, 2, 62, 3], np.uint8)), "has label 62; must be from 0 to 61"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {problem}"):
        open_mnist(tmp_path)


@pytest.mark.parametrize("gigabytes", [2, 0])
def test_images_that_memory_has_no_room_for_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: int
) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    monkeypatch.setattr(in_memory, "room", lambda: 1e9)
    header = idx_bytes(random_bytes(4, 28, 28))[:4] + np.array([1 << 20, 1 << 10, 2], ">u4").tobytes()
    with (tmp_path / IMAGES).open("wb") as file:
        file.write(header)
        file.truncate(len(header) + (gigabytes << 30))
    problem = r"holds 2\.1 GB, of which memory has 1\.0 GB left" if gigabytes else "16 bytes; its shape"
    with pytest.raises(DataError, match=f"{IMAGES}: {problem}"):
        open_mnist(tmp_path)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_half_a_pair_is_refused(tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name}: is missing beside"):
        open_mnist(tmp_path)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_what_only_has_the_name_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: cannot be read: it is no regular file but a pipe"):
        open_mnist(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(os.devnull)
    with pytest.raises(DataError, match=f"{name}: cannot be read: it is no regular file but a device"):
        open_mnist(tmp_path)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    assert len(open_mnist(tmp_path).train) == 4


def test_test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    write_mnist(tmp_path, split="t10k", samples=4)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(random_bytes(4, 14, 14)))
    with pytest.raises(DataError, match=r"test images of shape \(1, 14, 14\)"):
        open_mnist(tmp_path)


@pytest.mark.parametrize("highest", [9, 10, 26, 46, 61])
def test_classes_are_as_many_as_the_labels_need(tmp_path: Path, highest: int) -> None:
    for split, labels in (("train", [0, 3, highest - 1, 1]), ("t10k", [highest, 0])):
        write_mnist(tmp_path, split=split, samples=len(labels))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(np.array(labels, np.uint8)))
    source = open_mnist(tmp_path)
    assert source.test is not None
    assert (source.train.classes, source.test.classes) == (highest + 1, highest + 1)
    assert source.class_names == tuple(map(str, range(highest + 1)))
    assert source.lines() == [
        f"training: 4 images in 4 of {highest + 1} classes; test: 2 images in 2 of {highest + 1} classes"
    ]


def write_emnist(folder: Path, name: str) -> None:
    for split, samples in (("train", 6), ("test", 2)):
        write_mnist(folder, split=f"emnist-{name}-{split}", samples=samples, zipped=True)
    lines = [f"{label} {ord('A') + label} {ord('a') + label}" for label in range(1, 27)]
    (folder / f"emnist-{name}-mapping.txt").write_text("\r\n".join(lines))


def test_emnist_is_read_with_its_names(tmp_path: Path) -> None:
    write_emnist(tmp_path, "letters")
    (tmp_path / "readme.md").touch()
    source = open_mnist(tmp_path)
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (6, 2)
    assert source.class_names == ("0", "Bb", "Cc", "Dd", "Ee", "Ff", "Gg", "Hh", "Ii", "Jj")
    assert source.notes == ("mnist: passed over: 1 .md",)


def test_one_of_several_data_sets_is_chosen_by_its_name(tmp_path: Path) -> None:
    for name in ("letters", "balanced"):
        write_emnist(tmp_path, name)
    with pytest.raises(
        DataError, match=r"holds several data sets; .*: .*/emnist-balanced, .*/emnist-letters$"
    ):
        open_mnist(tmp_path)
    assert len(open_mnist(tmp_path / "emnist-letters").train) == 6
    with pytest.raises(
        DataError, match="emnist-digits: no such folder, and no IDX files whose names begin so"
    ):
        open_mnist(tmp_path / "emnist-digits")


@pytest.mark.parametrize("content", [b"0 x", b"0 \xff", b"\n", b"1 99999999999999"])
def test_table_of_characters_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    write_emnist(tmp_path, "letters")
    (tmp_path / "emnist-letters-mapping.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"mapping.txt: must be lines of a label and codes of characters"):
        open_mnist(tmp_path)


def test_folder_of_torchvision_is_read(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    write_mnist(tmp_path / "raw", split="train", samples=2)
    assert len(open_mnist(tmp_path).train) == 2


def test_folder_without_files_and_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no train-images-idx3-ubyte"):
        open_mnist(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        open_mnist(tmp_path / "nowhere")
