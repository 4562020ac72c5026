"""The reader of CIFAR-10's binary batches."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import DataError
from engine.data.readers.cifar10 import open_cifar10
from tests.engine.data.files import read_all, write_cifar10

MEAN = np.array([0.4914, 0.4822, 0.4465])[:, None, None]
STD = np.array([0.2470, 0.2435, 0.2616])[:, None, None]


@pytest.mark.parametrize("inner", [".", "cifar-10-batches-bin"])
def test_reads_what_was_written(tmp_path: Path, inner: str) -> None:
    (tmp_path / inner).mkdir(exist_ok=True)
    records = write_cifar10(tmp_path / inner, samples=3)
    source = open_cifar10(tmp_path)
    assert source.test is not None
    assert (source.class_names[0], source.class_names[9]) == ("airplane", "truck")
    for dataset, written in ((source.train, records[:5]), (source.test, records[5:])):
        flat = written.reshape(-1, 3073)
        x, labels = read_all(dataset)
        assert labels == flat[:, 0].tolist()
        expected = (flat[:, 1:].reshape(-1, 3, 32, 32) / 255 - MEAN) / STD
        np.testing.assert_allclose(x, expected, rtol=0, atol=2e-6)


def test_test_batch_is_optional(tmp_path: Path) -> None:
    write_cifar10(tmp_path, samples=1, test=False)
    assert open_cifar10(tmp_path).test is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "0 bytes; must be a multiple of 3073"),
        (bytes(3072), "3072 bytes; must be a multiple of 3073"),
        (bytes([10]) + bytes(3072), "has label 10; must be from 0 to 9"),
    ],
)
def test_bad_batch_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    write_cifar10(tmp_path, samples=1)
    (tmp_path / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(DataError, match=f"data_batch_3.bin: {problem}"):
        open_cifar10(tmp_path)


def test_a_batch_that_memory_has_no_room_for_is_not_read(tmp_path: Path) -> None:
    write_cifar10(tmp_path, samples=1)
    with (tmp_path / "data_batch_2.bin").open("r+b") as file:
        file.truncate(3073 << 29)
    with pytest.raises(
        DataError, match=r"data_batch_2.bin: holds 1,649\.8 GB, of which memory has [0-9,.]+ GB"
    ):
        open_cifar10(tmp_path)


def test_missing_batch_and_missing_folder_are_named(tmp_path: Path) -> None:
    write_cifar10(tmp_path, samples=1)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_4.bin: cannot be read: No such file"):
        open_cifar10(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        open_cifar10(tmp_path / "nowhere")
