"""MNIST and its kin: IDX files, gzipped or not (the format: LeCun et al., yann.lecun.com/exdb/mnist)."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import DataError, DataSource
from engine.data.readers.in_memory import InMemoryImages
from engine.data.readers.normalise import Normalisation

_CLASSES = 10
_GZIP_MAGIC = b"\x1f\x8b"
_NORMALISATION = Normalisation.of(mean=[0.1307], std=[0.3081])


def open_mnist(directory: Path) -> DataSource:
    """Read the training pair of files, and the test pair (t10k) where there is one."""
    if not directory.is_dir():
        raise DataError.at(directory, "no such folder; mnist:DIR wants the folder of the IDX files")
    train = _read_pair(directory, "train")
    if train is None:
        raise DataError.at(
            directory, "has no train-images-idx3-ubyte (also allowed: .idx3-ubyte, and .gz after either)"
        )
    test = _read_pair(directory, "t10k")
    if test is not None and test.sample_shape != train.sample_shape:
        raise DataError.at(
            directory, f"test images of shape {test.sample_shape}, training images of {train.sample_shape}"
        )
    return DataSource(train, test)


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes: uint8, of as many dimensions as `dimensions` says.

    Raises
    ------
    DataError
        The file cannot be read, is empty, or does not hold what its header says.
    """
    content = _read_bytes(path)
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise DataError.at(path, f"{len(content)} bytes; the header alone takes {header}")
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise DataError.at(
            path, f"starts with {content[:4].hex()}; an IDX file of this kind with {magic.hex()}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    if 0 in shape:
        raise DataError.at(path, f"holds nothing: its shape is {shape}")
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError.at(path, f"{len(content)} bytes; its shape {shape} needs {expected}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_pair(directory: Path, split: str) -> InMemoryImages | None:
    image_file = _find(directory, f"{split}-images", "idx3-ubyte")
    label_file = _find(directory, f"{split}-labels", "idx1-ubyte")
    if image_file is None and label_file is None:
        return None
    if image_file is None or label_file is None:
        missing = f"{split}-images-idx3-ubyte" if image_file is None else f"{split}-labels-idx1-ubyte"
        raise DataError.at(directory / missing, f"is missing beside {image_file or label_file}")
    pixels = read_idx(image_file, dimensions=3)[:, np.newaxis]
    labels = read_idx(label_file, dimensions=1)
    if len(labels) != len(pixels):
        raise DataError.at(label_file, f"{len(labels)} labels for {len(pixels)} images in {image_file}")
    if labels.max() >= _CLASSES:
        raise DataError.at(label_file, f"has label {labels.max()}; must be from 0 to {_CLASSES - 1}")
    return InMemoryImages("mnist", pixels.shape[1:], _CLASSES, pixels, labels, _NORMALISATION)


def _find(directory: Path, stem: str, kind: str) -> Path | None:
    for name in (f"{stem}-{kind}", f"{stem}.{kind}", f"{stem}-{kind}.gz", f"{stem}.{kind}.gz"):
        if (directory / name).is_file():
            return directory / name
    return None


def _read_bytes(path: Path) -> bytes:
    """Read a file, unpacked if its content is gzip: browsers unpack downloads and keep the name."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError.at(path, f"cannot be read: {error}") from error
