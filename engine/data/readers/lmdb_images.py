"""Images in LMDB: Caffe's (a Datum each), or pairs image-000000001 and label-000000001 with num-samples."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.wording import counted, printable, shortened
from engine.data.dataset import DataError, DataSource, digest
from engine.data.readers.class_names import SplitLabels, classes_of, label_in, read_class_names
from engine.data.readers.datum import Datum, read_datum
from engine.data.readers.image_file import EncodedImage, load_pillow
from engine.data.readers.lmdb_file import LmdbFile
from engine.data.readers.open_files import OpenFiles
from engine.data.readers.positioned_images import Places, PositionedImages
from engine.data.readers.split_files import split_files

_FILE = "data.mdb"
_ENCODED, _PIXELS = range(2)  # kinds of places
_COUNT = b"num-samples"
_PAIRED = re.compile(rb"(image|label)-([0-9]{9})")
_AHEAD = 64
_MOST_LABEL = 1 << 16


@dataclass(frozen=True, eq=False, kw_only=True)
class LmdbImages(PositionedImages):
    """Images that are values of an LMDB database, in the order of keys."""

    def stored(self, index: int) -> EncodedImage | NDArray[np.uint8]:
        """Return the image in a value."""
        content, name = self.content(index), f"{self.path_of(index)}: entry {index}"
        if self.places.kinds[index] == _ENCODED:
            return EncodedImage(name, content)
        try:
            datum, content = _datum_in(content)
            return datum.pixels(content)
        except ValueError as error:
            raise DataError.at(name, error) from error


def open_lmdb(directory: Path, sample_shape: tuple[int, int, int]) -> DataSource:
    """List the entries of a folder's databases: folders such as train_lmdb and val_lmdb, or one itself.

    Raises
    ------
    DataError
        A database is damaged, or has other values.
    """
    load_pillow()
    if not directory.is_dir():
        raise DataError.no_folder(
            directory, "lmdb:DIR wants a folder of data.mdb, or of train_lmdb and the like"
        )
    names = read_class_names(directory)
    notes: tuple[str, ...] = ()
    if (directory / _FILE).exists():
        folders = [directory]
    else:
        files = split_files(directory, _is_database, what=f"databases (folders with {_FILE})")
        tests = files.tests[0] if files.tests else ()
        if len(files.train) != 1 or len(tests) > 1:
            raise DataError.at(directory, "has several databases of one split; must be one")
        folders, notes = [*files.train, *tests], files.passed_over(tests)
    numbers = {name: label for label, name in enumerate(names)}
    listed = [_Listed(folder / _FILE, numbers) for folder in folders]
    labels = [each.places.all_labels() for each in listed]
    said = [SplitLabels(its, each.name_of) for each, its in zip(listed, labels, strict=True)]
    classes = classes_of(said, names, directory)
    splits = [
        LmdbImages(
            name="lmdb",
            sample_shape=sample_shape,
            classes=classes,
            class_names=names,
            labels=its,
            opened=each.opened,
            places=each.places,
            hashed=digest(each.hashed.digest(), its),
        )
        for each, its in zip(listed, labels, strict=True)
    ]
    return DataSource(
        splits[0], splits[1] if len(splits) > 1 else None, notes=tuple(f"lmdb: {line}" for line in notes)
    )


def _is_database(path: Path) -> bool:
    return (path / _FILE).is_file()


def _datum_in(content: bytes) -> tuple[Datum, bytes]:
    datum = read_datum(lambda place, count: content[place : place + count], len(content))
    return datum, content[datum.data : datum.data + datum.size]


class _Listed:
    """The samples of one database."""

    def __init__(self, path: Path, numbers: dict[str, int]):
        try:
            self.opened = OpenFiles([path])
            self._database = LmdbFile(self.opened, 0)
        except OSError as error:
            raise DataError.at(path, f"cannot be read: {error.strerror}") from error
        self.places, self.hashed = Places(), hashlib.sha256()
        self._numbers, self._path = numbers, path
        entries = iter(self._database)
        first = next(entries, None)
        if first is None:
            raise DataError.at(path, "has no entries")
        if _PAIRED.fullmatch(first[0]):
            self._list_pairs()
        else:
            self._list_data()

    def name_of(self, index: int) -> str:
        """Return what errors call a sample."""
        return f"{self._path}: entry {index}"

    def _list_data(self) -> None:
        """List Caffe's entries, one a sample."""
        for key, offset, size in self._database:
            try:
                datum = self._datum(offset, size)
            except ValueError as error:
                raise self._wrong(key, error) from error
            kind = _ENCODED if datum.encoded else _PIXELS
            place, length = (offset + datum.data, datum.size) if datum.encoded else (offset, size)
            self.places.add(file=0, offset=place, size=length, kind=kind, label=datum.label)
            self.hashed.update(b"%b\0%d\n" % (key, datum.size))

    def _datum(self, offset: int, size: int) -> Datum:
        start = self._database.read(offset, min(size, _AHEAD))

        def read(place: int, count: int) -> bytes:
            if place + count <= len(start) or len(start) == size:
                return start[place : place + count]
            return self._database.read(offset + place, min(count, size - place))

        return read_datum(read, size)

    def _list_pairs(self) -> None:
        """List images and labels, which have a number each, from 1 on."""
        images, labels = Places(), Places()
        for key, offset, size in self._database:
            match = _PAIRED.fullmatch(key)
            if match is None:
                if key != _COUNT:
                    raise self._wrong(key, "is neither image-..., label-... nor num-samples")
                continue
            into = images if match[1] == b"image" else labels
            if int(match[2]) != len(into.sizes) + 1:
                raise self._wrong(key, f"comes where number {len(into.sizes) + 1} must be")
            label = self._label(key, offset, size) if into is labels else 0
            into.add(file=0, offset=offset, size=size, kind=_ENCODED, label=label)
            self.hashed.update(b"%b\0%d\n" % (key, size))
        if len(images.sizes) != len(labels.sizes):
            counts = f"{counted(len(images.sizes), 'image')} and {counted(len(labels.sizes), 'label')}"
            raise DataError.at(self._path, f"has {counts}; must be as many")
        images.labels = labels.labels
        self.places = images

    def _label(self, key: bytes, offset: int, size: int) -> int:
        try:
            return label_in(self._database.read(offset, min(size, _MOST_LABEL)).decode(), self._numbers)
        except ValueError as error:
            raise self._wrong(key, f"says no label: {error}") from error

    def _wrong(self, key: bytes, problem: object) -> DataError:
        name = shortened(printable(os.fsdecode(key)))
        return DataError.at(
            self._path,
            f"entry {name}: {problem}; read are Caffe's Datum, and pairs image-000000001, label-000000001",
        )
