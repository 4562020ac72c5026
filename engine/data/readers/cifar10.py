"""CIFAR-10 in its binary batches (Krizhevsky 2009; the format: www.cs.toronto.edu/~kriz/cifar.html)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.files import read_bytes
from engine.data.dataset import DataError, DataSource
from engine.data.readers.in_memory import InMemoryImages, check_room
from engine.data.readers.normalise import Normalisation
from engine.data.readers.passed_over import notes_on_others

_CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_CLASSES = len(_CLASS_NAMES)
_SAMPLE_SHAPE = (3, 32, 32)
_RECORD_BYTES = 1 + 3 * 32 * 32
_TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST_FILE = "test_batch.bin"
_DOCUMENTS = ("batches.meta.txt", "readme.html")  # of the archive
_NORMALISATION = Normalisation.of(mean=[0.4914, 0.4822, 0.4465], std=[0.2470, 0.2435, 0.2616])


def open_cifar10(directory: Path) -> DataSource:
    """Read the five training batches, and the test batch where there is one.

    The batches lie in the folder or in its `cifar-10-batches-bin`, as the archive unpacks.
    """
    inner = directory / "cifar-10-batches-bin"
    folder = inner if inner.is_dir() else directory
    if not folder.is_dir():
        raise DataError.no_folder(directory, "cifar10:DIR wants the folder of data_batch_1.bin")
    train = _images([read_batch(folder / name) for name in _TRAIN_FILES])
    test_file = folder / _TEST_FILE
    return DataSource(
        train,
        _images([read_batch(test_file)]) if test_file.exists() else None,
        notes=notes_on_others("cifar10", folder, {*_TRAIN_FILES, _TEST_FILE, *_DOCUMENTS}),
    )


def read_batch(path: Path) -> NDArray[np.uint8]:
    """Read one batch: uint8 [N, 3073], in each record the label and then the planes R, G and B.

    Raises
    ------
    DataError
        The file cannot be read, is empty, is no whole number of records, or has a label above 9.
    """
    try:
        check_room(path, path.stat().st_size)
        content = read_bytes(path)
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror}") from error
    if not content or len(content) % _RECORD_BYTES:
        raise DataError.at(path, f"{len(content)} bytes; must be a multiple of {_RECORD_BYTES}, and not 0")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD_BYTES)
    highest = records[:, 0].max()
    if highest >= _CLASSES:
        raise DataError.at(path, f"has label {highest}; must be from 0 to {_CLASSES - 1}")
    return records


def _images(batches: list[NDArray[np.uint8]]) -> InMemoryImages:
    pixels = np.concatenate([records[:, 1:] for records in batches]).reshape(-1, *_SAMPLE_SHAPE)
    labels = np.concatenate([records[:, 0] for records in batches])
    return InMemoryImages(
        "cifar10", _SAMPLE_SHAPE, _CLASSES, pixels, labels, _NORMALISATION, class_names=_CLASS_NAMES
    )
