"""Writers of data sets, one a format: a piece is on the disk, under its name, when `write` returns."""

from __future__ import annotations

import json
import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import sync, sync_folder, unfinished, write_whole
from engine.data.dataset import DataError, DataSource
from engine.data.labels import labels_of
from engine.data.packing.pieces import Piece
from engine.data.packing.samples import Sample, file_ending
from engine.data.readers.class_names import CLASSES_FILE, classes_text
from engine.data.readers.datum import datum_bytes
from engine.data.readers.image_file import ending_by_content, image_endings
from engine.data.readers.image_listing import split_kind
from engine.data.readers.parquet_images import load_pyarrow

_GROUP = 32  # rows of a row group: what is read for one image
_BATCH = 64  # samples of a transaction
_MAP = 64 << 20  # bytes that LMDB may add for its own


class Writer(ABC):
    """Writes the samples of a data set into a folder.

    Parameters
    ----------
    folder
        Where it is prepared.
    source
        Whose samples will come: what is said of them, such as the names of classes.
    """

    def __init__(self, folder: Path, source: DataSource):
        self.folder, self.source = folder, source

    def begin(self) -> None:
        """Write what lies beside the samples: the names of classes."""
        write_whole(self.folder / CLASSES_FILE, classes_text(self.source.class_names))

    @abstractmethod
    def write(self, piece: Piece, samples: Iterable[Sample]) -> None:
        """Write a piece; what an interrupted run has left of it is replaced."""

    def places(self, split: str, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index that each sample has in the new data set, int64 [N]: its own."""
        return np.arange(len(labels), dtype=np.int64)

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know, a line each."""
        return ()


class TarWriter(Writer):
    """WebDataset's shards: of each sample a label, KEY.cls, and the image behind it."""

    def write(self, piece: Piece, samples: Iterable[Sample]) -> None:
        """Write a shard, train-000003.tar."""
        place = self.folder / f"{piece.split}-{piece.number:06d}.tar"
        width = len(str(piece.first + piece.count))
        keys = (f"{index:0{max(8, width)}d}" for index in piece.indices())
        write_whole(place, self._blocks(keys, samples))

    def _blocks(self, keys: Iterable[str], samples: Iterable[Sample]) -> Iterator[bytes]:
        for key, sample in zip(keys, samples, strict=True):
            for name, content in (
                (f"{key}.cls", b"%d" % sample.label),
                (f"{key}{file_ending(sample, key)}", sample.content),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                yield member.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


class LmdbWriter(Writer):
    """Caffe's databases, train_lmdb and test_lmdb: a Datum each, by keys of eight or more digits."""

    def write(self, piece: Piece, samples: Iterable[Sample]) -> None:
        """Add a piece, some samples at a time: what is there is always a whole database."""
        lmdb = _lmdb()
        place = self.folder / f"{piece.split}_lmdb"
        try:
            with lmdb.open(str(place), map_size=_MAP, lock=False) as environment:
                for first, batch in _batches(piece, samples, _BATCH):
                    values = [self._datum(each) for each in batch]
                    used = environment.info()["last_pgno"] * environment.stat()["psize"]
                    environment.set_mapsize(used + 2 * sum(map(len, values)) + _MAP)
                    with environment.begin(write=True) as transaction:
                        for index, value in enumerate(values, first):
                            transaction.put(b"%010d" % index, value)
        except lmdb.Error as error:
            raise UserError(f"pack: {place}: cannot be written: {error}") from error
        sync_folder(place)

    def _datum(self, sample: Sample) -> bytes:
        if not ending_by_content(sample.content):
            raise UserError(
                f"pack: lmdb keeps no names, and {sample.ending or 'an image'} is not known by its content; "
                "pack it in another format, or with --resize"
            )
        return datum_bytes(sample.content, sample.label)


class ParquetWriter(Writer):
    """Files as Hugging Face's library writes them: train-00000-of-00002.parquet."""

    def begin(self) -> None:
        """Do nothing: names of classes are in each file."""

    def write(self, piece: Piece, samples: Iterable[Sample]) -> None:
        """Write a file, in small row groups; images are not compressed again."""
        pa = load_pyarrow()
        schema = pa.schema(
            [
                ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                ("label", pa.int64()),
            ],
            metadata={"huggingface": json.dumps({"info": {"features": self._features()}})},
        )
        place = self.folder / f"{piece.split}-{piece.number:05d}-of-{piece.of:05d}.parquet"
        with (
            unfinished(place).open("wb") as content,
            pa.parquet.ParquetWriter(content, schema, compression="none", use_dictionary=False) as file,
        ):
            for first, rows in _batches(piece, samples, _GROUP):
                file.write_table(_table(pa, schema, rows, first), row_group_size=_GROUP)
        sync(unfinished(place))
        unfinished(place).replace(place)
        sync_folder(self.folder)

    def _features(self) -> dict[str, Any]:
        names = list(self.source.class_names)
        return {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}


class FolderWriter(Writer):
    """Folders of classes, in train/ and test/."""

    def begin(self) -> None:
        """Make the folders, whose names are those of classes where they can be.

        Raises
        ------
        UserError
            A class has no images to train on: its folder would be empty.
        """
        train = labels_of(self.source.train, "pack")
        for label, name in enumerate(self.source.class_names):
            if label not in train:
                raise UserError(
                    f'pack: class "{name}" has no training images, and a folder of none is no class'
                )
        for split, data in zip(("train", "test"), self.source.splits(), strict=False):
            for label in np.unique(labels_of(data, "pack")).tolist():
                (self.folder / split / self._names()[label]).mkdir(parents=True, exist_ok=True)

    def write(self, piece: Piece, samples: Iterable[Sample]) -> None:
        """Write the files of a piece, named by their numbers."""
        names = self._names()
        for index, sample in zip(piece.indices(), samples, strict=True):
            name = f"{index:08d}{file_ending(sample, f'sample {index}')}"
            if sample.ending not in image_endings():
                raise DataError.at(name, "has no ending of an image")
            (self.folder / piece.split / names[sample.label] / name).write_bytes(sample.content)
        os.sync()  # once, and not for each file

    def places(self, split: str, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the index of each sample where all are read class by class."""
        places = np.empty(len(labels), np.int64)
        places[np.argsort(labels, kind="stable")] = np.arange(len(labels))
        return places

    def notes(self) -> tuple[str, ...]:
        """Say what folders cannot keep: an order, and some names."""
        lines = []
        if any((np.diff(labels_of(data, "pack")) < 0).any() for data in self.source.splits()):
            lines.append(
                "folders are read class by class: samples have another order, and training other bits"
            )
        if self._names() != self.source.class_names:
            lines.append("classes are named after their numbers first, as folders are read in that order")
        return tuple(lines)

    def _names(self) -> tuple[str, ...]:
        """Return the folders of classes: those that are read in their order are named as the classes are."""
        names = self.source.class_names
        fit = all(map(_is_folder_name, names)) and all(one < other for one, other in pairwise(names))
        width = len(str(len(names) - 1))
        return (
            names if fit else tuple(f"{label:0{width}d}_{_clean(name)}" for label, name in enumerate(names))
        )


def _is_folder_name(name: str) -> bool:
    return _clean(name) == name and not name.startswith(".") and split_kind(name) is None


def _clean(name: str) -> str:
    return name.replace("/", "_").encode()[:200].decode(errors="ignore")


def _batches(piece: Piece, samples: Iterable[Sample], size: int) -> Iterator[tuple[int, list[Sample]]]:
    """Yield so many samples at a time, with the index of the first."""
    rows: list[Sample] = []
    for index, sample in zip(piece.indices(), samples, strict=True):
        rows.append(sample)
        if len(rows) == size or index == piece.indices()[-1]:
            yield index + 1 - len(rows), rows
            rows = []


def _table(pa: Any, schema: Any, rows: Sequence[Sample], first: int) -> Any:
    images = [
        {"bytes": each.content, "path": f"{first + place:08d}{each.ending}"}
        for place, each in enumerate(rows)
    ]
    return pa.table(
        [pa.array(images, schema[0].type), pa.array([each.label for each in rows])], schema=schema
    )


def _lmdb() -> Any:
    try:
        import lmdb  # noqa: PLC0415 - an extra: only its users need it
    except ImportError as error:
        raise UserError(
            "pack: lmdb is not installed; install it with pip install 'lockstep-sgd[formats]'"
        ) from error
    return lmdb


WRITERS: dict[str, type[Writer]] = {
    "webdataset": TarWriter,
    "lmdb": LmdbWriter,
    "parquet": ParquetWriter,
    "images": FolderWriter,
}
"""By the kind of data that reads them."""
