"""Writers of tiny data files, for the tests of their readers."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.data.dataset import Dataset


def random_bytes(*shape: int, seed: int = 0, high: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(
    directory: Path, *, split: str, samples: int, separator: str = "-", zipped: bool = False, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Write a pair of IDX files; return the pixels [N, 28, 28] and the labels."""
    pixels, labels = random_bytes(samples, 28, 28, seed=seed), random_bytes(samples, seed=seed, high=10)
    for kind, array in (("images", pixels), ("labels", labels)):
        path = directory / f"{split}-{kind}{separator}idx{array.ndim}-ubyte{'.gz' if zipped else ''}"
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content) if zipped else content)
    return pixels, labels


def write_cifar10(directory: Path, *, samples: int, test: bool = True) -> NDArray[np.uint8]:
    """Write the batches, `samples` in each; return all records [5 or 6, samples, 3073]."""
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"] * test
    records = random_bytes(len(names), samples, 3073)
    records[:, :, 0] %= 10
    for name, batch in zip(names, records, strict=True):
        (directory / name).write_bytes(batch.tobytes())
    return records


def write_image(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write pixels [H, W, 3] or [H, W]; the format follows from the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def read_all(dataset: Dataset) -> tuple[NDArray[np.float32], list[int]]:
    """Read every sample, in order; the labels are those that the data set says without reading."""
    x = np.full((len(dataset), *dataset.sample_shape), np.nan, np.float32)
    labels = [dataset.read(index, x[index]) for index in range(len(dataset))]
    np.testing.assert_array_equal(dataset.all_labels(), labels)
    return x, labels
