"""The IDX reader: what was written comes back, and what is wrong is named."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import DataError
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
        (LABELS, idx_bytes(random_bytes(3, high=10)), "3 labels for 4 images"),
        (LABELS, idx_bytes(np.array([1, 2, 10, 3], np.uint8)), "has label 10; must be from 0 to 9"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {problem}"):
        open_mnist(tmp_path)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_half_a_pair_is_refused(tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name}: is missing beside"):
        open_mnist(tmp_path)


def test_test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, split="train", samples=4)
    write_mnist(tmp_path, split="t10k", samples=4)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(random_bytes(4, 14, 14)))
    with pytest.raises(DataError, match=r"test images of shape \(1, 14, 14\)"):
        open_mnist(tmp_path)


def test_folder_without_files_and_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no train-images-idx3-ubyte"):
        open_mnist(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        open_mnist(tmp_path / "nowhere")
