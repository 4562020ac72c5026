"""MNIST and its kin: IDX files, gzipped or not (the format: LeCun et al., yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from engine.config.files import open_file, read_bytes
from engine.config.wording import printable
from engine.data.dataset import DataError, DataSource
from engine.data.readers.in_memory import InMemoryImages, check_room
from engine.data.readers.normalise import Normalisation
from engine.data.readers.passed_over import FILE, FOLDER, HIDDEN, kind_of, notes_on_others

_DIGITS = 10
_MOST_CLASSES = 62  # of EMNIST: digits, capitals, small letters
_NAME = re.compile(
    r"(?P<prefix>(?:.*[-_.])?)(?P<split>train|t10k|test)-(?P<kind>images[-.]idx3|labels[-.]idx1)-ubyte(?:\.gz)?",
    re.DOTALL,
)
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_UNPACKED = 1032
"""Bytes into which gzip can have packed one: no more than that comes out, whatever a header claims."""
_PIECE = 1 << 24
_NORMALISATION = Normalisation.of(mean=[0.1307], std=[0.3081])

_Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Pixels [N, 1, H, W] and labels [N]."""


def open_mnist(directory: Path) -> DataSource:
    """Read the training pair of files, and the test pair (t10k, or test) where there is one.

    The names may begin with that of a data set, as EMNIST's do; of several in one folder DIR/NAME chooses.
    There are as many classes as the labels need, and at least the ten digits. EMNIST's table of characters
    (NAME-mapping.txt) names them, where it lies beside.
    """
    folder, name = _place(directory)
    found = _pairs(folder, name)
    prefixes = sorted({prefix for prefix, _ in found})
    if len(prefixes) > 1:
        choices = ", ".join(printable(folder / prefix.rstrip("-_.")) for prefix in prefixes if prefix)
        raise DataError.at(folder, f"holds several data sets; give one of them as mnist:DIR/NAME: {choices}")
    if not any(split == "train" for _, split in found):
        raise DataError.at(
            directory, "has no train-images-idx3-ubyte (also allowed: .idx3-ubyte, and .gz after either)"
        )
    (prefix,) = prefixes
    pairs = {split: _read_pair(folder, prefix, split, files) for (_, split), files in found.items()}
    train, test = pairs["train"], pairs.get("t10k", pairs.get("test"))
    if test is not None and test[0].shape[1:] != train[0].shape[1:]:
        raise DataError.at(
            folder, f"test images of shape {test[0].shape[1:]}, training images of {train[0].shape[1:]}"
        )
    mapping = folder / f"{prefix}mapping.txt"
    classes = max(_DIGITS, *(int(labels.max()) + 1 for _, labels in pairs.values()))
    names = _class_names(mapping, classes) if mapping.is_file() else ()
    used = {mapping.name, *(path.name for files in found.values() for path in files.values())}
    return DataSource(
        _images(train, classes, names),
        None if test is None else _images(test, classes, names),
        notes=notes_on_others("mnist", folder, used),
    )


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes: uint8, of as many dimensions as `dimensions` says.

    Raises
    ------
    DataError
        The file cannot be read, is empty, or does not hold what its header says.
    """
    header = 4 + 4 * dimensions
    with _opened(path) as file:
        start = _read(file, header)
        if len(start) < header:
            raise DataError.at(path, f"{len(start)} bytes; the header alone takes {header}")
        magic = bytes([0, 0, 8, dimensions])
        if start[:4] != magic:
            raise DataError.at(
                path, f"starts with {start[:4].hex()}; an IDX file of this kind with {magic.hex()}"
            )
        shape = tuple(int(size) for size in np.frombuffer(start, ">u4", dimensions, offset=4))
        if 0 in shape:
            raise DataError.at(path, f"holds nothing: its shape is {shape}")
        expected = math.prod(shape)
        check_room(path, min(expected, path.stat().st_size * _MOST_UNPACKED))
        content = _read(file, expected + 1)
    if len(content) != expected:
        more = " or more" if len(content) > expected else ""
        raise DataError.at(
            path, f"{header + len(content)} bytes{more}; its shape {shape} needs {header + expected}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _place(directory: Path) -> tuple[Path, str]:
    """Return the folder of the files, and what their names begin with, where the user says so."""
    if directory.is_dir():
        raw = directory / "raw"  # as torchvision unpacks
        return (raw if raw.is_dir() else directory), ""
    if directory.exists() or not directory.parent.is_dir():
        raise DataError.no_folder(directory, "mnist:DIR wants the folder of the IDX files")
    return directory.parent, directory.name


def _pairs(folder: Path, name: str) -> dict[tuple[str, str], dict[str, Path]]:
    """Return the files of images and labels, by what their names begin with and by split.

    Of the same content in several files, unpacked ones go first, and then those with a hyphen. What only has
    the name of a file, such as a pipe, counts where there is no other: its error says what it is.
    """
    found: dict[tuple[str, str], dict[str, Path]] = {}
    with os.scandir(folder) as entries:
        kinds = {entry.name: kind_of(entry) for entry in entries}
    names = [name for name, kind in kinds.items() if kind not in (FOLDER, HIDDEN)]
    for each in sorted(names, key=lambda name: (kinds[name] != FILE, name.endswith(".gz"), name)):
        match = _NAME.fullmatch(each)
        if match and match["prefix"].startswith(name):
            pair = found.setdefault((match["prefix"], match["split"]), {})
            pair.setdefault(match["kind"][:6], folder / each)
    if name and not found:
        raise DataError.at(
            folder / name, "no such folder, and no IDX files whose names begin so; mnist:DIR wants a folder"
        )
    return found


def _read_pair(folder: Path, prefix: str, split: str, files: dict[str, Path]) -> _Pair:
    for kind, dimensions in (("images", 3), ("labels", 1)):
        if kind not in files:
            (beside,) = files.values()
            missing = folder / f"{prefix}{split}-{kind}-idx{dimensions}-ubyte"
            raise DataError.at(missing, f"is missing beside {beside}")
    pixels = read_idx(files["images"], dimensions=3)[:, np.newaxis]
    labels = read_idx(files["labels"], dimensions=1)
    if len(labels) != len(pixels):
        raise DataError.at(
            files["labels"], f"{len(labels)} labels for {len(pixels)} images in {files['images']}"
        )
    if labels.max() >= _MOST_CLASSES:
        raise DataError.at(
            files["labels"], f"has label {labels.max()}; must be from 0 to {_MOST_CLASSES - 1}"
        )
    return pixels, labels


def _images(pair: _Pair, classes: int, names: tuple[str, ...]) -> InMemoryImages:
    pixels, labels = pair
    return InMemoryImages(
        "mnist", pixels.shape[1:], classes, pixels, labels, _NORMALISATION, class_names=names
    )


def _class_names(mapping: Path, classes: int) -> tuple[str, ...]:
    """Read EMNIST's table: in each line a label and the codes of its characters; others keep their number."""
    names = {label: str(label) for label in range(classes)}
    try:
        for line in read_bytes(mapping).decode("ascii").splitlines():
            label, *codes = map(int, line.split())
            names[label] = printable("".join(map(chr, codes)))
    except OSError as error:
        raise DataError.at(mapping, f"cannot be read: {error.strerror}") from error
    except (ValueError, OverflowError) as error:
        raise DataError.at(mapping, f"must be lines of a label and codes of characters: {error}") from error
    return tuple(names[label] for label in range(classes))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, to be unpacked if its content is gzip: browsers unpack downloads and keep the name."""
    try:
        with open_file(path) as file:
            zipped = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
            if zipped:
                with gzip.open(file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        problem = isinstance(error, OSError) and error.strerror
        raise DataError.at(path, f"cannot be read: {problem or error}") from error


def _read(file: BinaryIO, count: int) -> bytearray:
    """Read up to `count` bytes; whatever a header claims, no more memory is taken than there is content."""
    content = bytearray()
    while piece := file.read(min(count - len(content), _PIECE)):
        content += piece
    return content
