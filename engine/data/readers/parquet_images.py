"""Images in Parquet files, as Hugging Face's data sets are written: a column of images, and one of labels."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import check_regular
from engine.config.wording import is_name, shortened
from engine.data.dataset import DataError, DataSource, digest
from engine.data.readers.class_names import SplitLabels, as_labels, classes_of
from engine.data.readers.image_file import EncodedImage, load_pillow
from engine.data.readers.split_files import SplitFiles, split_files
from engine.data.readers.stored_images import StoredImages

KEPT_BYTES = 256 << 20
"""Of row groups that are in memory; one at least."""
_IMAGE = ("image", "img", "jpg", "png", "webp")
_LABEL = ("label", "labels", "cls", "class")


def load_pyarrow() -> Any:
    """Return pyarrow, with its module for Parquet.

    Raises
    ------
    UserError
        It is not installed; the error says how to install it.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra: only its users need it
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "parquet: pyarrow is not installed; install it with pip install 'lockstep-sgd[formats]'"
        ) from error
    return pa


@dataclass(frozen=True)
class _Table:
    """One Parquet file that has been opened once."""

    path: Path
    metadata: Any
    image: str
    label: str
    labels: NDArray[Any]
    class_names: tuple[str, ...]
    groups: NDArray[np.int64]
    """int64 [G + 1]: the first row of each row group, and the number of rows."""


@dataclass
class _Kept:
    """The row groups that were used last, shared by all threads."""

    groups: OrderedDict[tuple[int, int], Any] = field(default_factory=OrderedDict)
    size: int = 0
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True, eq=False, kw_only=True)
class ParquetImages(StoredImages):
    """Images that are rows of Parquet files."""

    tables: tuple[_Table, ...]
    starts: NDArray[np.int64]
    """int64 [T]: the first row of each file."""
    kept: _Kept = field(default_factory=_Kept)

    def stored(self, index: int) -> EncodedImage:
        """Return the image of one row, from a row group that is in memory or read now."""
        file = int(np.searchsorted(self.starts, index, side="right")) - 1
        table, row = self.tables[file], index - int(self.starts[file])
        group = int(np.searchsorted(table.groups, row, side="right")) - 1
        name = f"{table.path}: row {row}"
        try:
            value = self._group(file, group)[row - int(table.groups[group])].as_py()
        except IndexError as error:
            raise DataError.at(name, "is not in its row group: the file is damaged") from error
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if content is None:
            raise DataError.at(name, "has no bytes of an image")
        return EncodedImage(name, content, PurePath(path or "").suffix.lower())

    def fingerprint(self) -> str:
        """Hash labels and the sizes of row groups; the images themselves are not read for it."""
        sizes = [
            table.metadata.row_group(group).total_byte_size
            for table in self.tables
            for group in range(table.metadata.num_row_groups)
        ]
        return digest(np.array(sizes, np.int64), self.labels)

    def _group(self, file: int, group: int) -> Any:
        """Return the images of a row group."""
        kept, key = self.kept, (file, group)
        with kept.lock:
            if key in kept.groups:
                kept.groups.move_to_end(key)
                return kept.groups[key]
        column = _read(self.tables[file], [group], self.tables[file].image)
        with kept.lock:
            if key not in kept.groups:
                kept.groups[key] = column
                kept.size += column.nbytes
            while kept.size > KEPT_BYTES and len(kept.groups) > 1:
                kept.size -= kept.groups.popitem(last=False)[1].nbytes
        return column


def open_parquet(directory: Path, sample_shape: tuple[int, int, int]) -> DataSource:
    """Open the Parquet files of a folder: train-00000-of-00002.parquet, test-..., validation-...

    Images are a column `image` of {bytes, path} or of bytes, labels a column `label` of numbers, whose names
    are those of Hugging Face's ClassLabel, or of names. A test set without labels (-1) is passed over.

    Raises
    ------
    DataError
        A file is damaged, or has no such columns.
    """
    load_pillow()
    load_pyarrow()
    if not directory.is_dir():
        raise DataError.no_folder(directory, "parquet:DIR wants a folder of .parquet files")
    files = split_files(directory, lambda path: path.suffix.lower() == ".parquet", what=".parquet files")
    train = [_table(path) for path in files.train]
    test, notes = _test_tables(files)
    names = train[0].class_names
    if any(table.class_names != names for table in (*train, *test)):
        names = ()
    parts = [[table.labels for table in tables] for tables in (train, test) if tables]
    if any(labels.dtype.kind == "U" for labels in parts[0]):
        names = tuple(np.unique(np.concatenate(parts[0])).tolist())
    labels = [_numbers(np.concatenate(part), names, directory) for part in parts]
    said = [
        SplitLabels(its, partial(_name, tables)) for tables, its in zip((train, test), labels, strict=False)
    ]
    classes = classes_of(said, names, directory)
    splits = [
        ParquetImages(
            name="parquet",
            sample_shape=sample_shape,
            classes=classes,
            class_names=names,
            labels=its,
            tables=tuple(tables),
            starts=np.cumsum([0, *(len(table.labels) for table in tables[:-1])]),
        )
        for tables, its in zip((train, test), labels, strict=False)
    ]
    return DataSource(
        splits[0], splits[1] if test else None, notes=tuple(f"parquet: {line}" for line in notes)
    )


def _name(tables: Sequence[_Table], index: int) -> str:
    """Return what errors call the label of a sample."""
    for table in tables:
        if index < len(table.labels):
            return f"{table.path}: row {index}"
        index -= len(table.labels)
    raise IndexError(index)


def _test_tables(files: SplitFiles) -> tuple[list[_Table], tuple[str, ...]]:
    """Return the first test set whose samples have labels."""
    for paths in files.tests:
        tables = [_table(path) for path in paths]
        if any(table.labels.dtype.kind == "U" or (table.labels >= 0).any() for table in tables):
            return tables, files.passed_over(paths)
    return [], files.passed_over()


def _numbers(labels: NDArray[Any], names: Sequence[str], directory: Path) -> NDArray[np.int32]:
    """Return labels as numbers."""
    if labels.dtype.kind != "U":
        return as_labels(np.clip(labels, -1, 2**31 - 1))
    if not all(map(is_name, names)):
        raise DataError.at(directory, "has an empty label, or one with control characters; must be a name")
    places = np.searchsorted(np.array(names), labels)
    for place, label in zip(places.tolist(), labels.tolist(), strict=True):
        if place == len(names) or names[place] != label:
            raise DataError.at(directory, f'tests on class "{shortened(label)}", which is not trained on')
    return as_labels(places)


def _table(path: Path) -> _Table:
    """Open a file: read its form, and its labels."""
    parquet = load_pyarrow().parquet
    try:
        check_regular(path)
        with parquet.ParquetFile(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
            features = _features(schema)
            image = _column(schema.names, _IMAGE, features, "Image")
            label = _column(schema.names, _LABEL, features, "ClassLabel")
            labels = _label_array(file.read([label], use_threads=False).column(0))
            counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    except Exception as error:  # a damaged file makes pyarrow raise many things
        problem = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError.at(path, f"cannot be read: {shortened(problem, 200)}") from error
    if min(counts, default=0) < 0 or sum(counts) != len(labels):
        raise DataError.at(path, f"has {len(labels)} labels in row groups of {sum(counts)}: it is damaged")
    names = features.get(label, {}).get("names") or ()
    if not (isinstance(names, list) and all(map(is_name, names)) and len(set(names)) == len(names)):
        names = ()
    return _Table(path, metadata, image, label, labels, tuple(names), np.cumsum([0, *counts]))


def _features(schema: Any) -> dict[str, Any]:
    """Return what Hugging Face's library wrote of columns; nothing where it was none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: each for name, each in features.items() if isinstance(each, dict)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _column(names: Sequence[str], usual: Sequence[str], features: dict[str, Any], kind: str) -> str:
    """Return the column of a kind: by its usual names, or the only one that says so."""
    found = next((name for name in usual if name in names), None)
    said = [name for name in names if features.get(name, {}).get("_type") == kind]
    if found is None and len(said) == 1:
        (found,) = said
    if found is None:
        raise ValueError(f"has columns {', '.join(names)}; must have {usual[0]} and, for labels, {_LABEL[0]}")
    return found


def _label_array(column: Any) -> NDArray[Any]:
    pa = load_pyarrow()
    if column.null_count:
        raise ValueError(f"{column.null_count} rows have no label")
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy().astype(np.int64))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), np.str_)
    raise ValueError(f"has labels of kind {column.type}; must be whole numbers, or names")


def _read(table: _Table, groups: list[int], column: str) -> Any:
    """Return one column of row groups."""
    parquet = load_pyarrow().parquet
    try:
        check_regular(table.path)
        with parquet.ParquetFile(table.path, metadata=table.metadata) as file:
            return file.read_row_groups(groups, [column], use_threads=False).column(0)
    except Exception as error:  # as above
        problem = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError.at(
            table.path, f"row group {groups[0]} cannot be read: {shortened(problem, 200)}"
        ) from error
