"""Images that a CSV file lists, with their classes: "path,label", and perhaps the split."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.files import read_text
from engine.config.wording import did_you_mean, is_name, printable, shortened
from engine.data.dataset import DataError, DataSource
from engine.data.readers.class_names import SplitLabels, as_labels, classes_of, label_in, read_class_names
from engine.data.readers.image_file import image_endings, load_pillow
from engine.data.readers.image_folder import ImageFolder
from engine.data.readers.image_listing import TESTING, TRAINING, VALIDATION, split_kind

_PATH = ("path", "file", "filename", "image")
_LABEL = ("label", "class")
_SPLIT = ("split",)
_NUMBER = re.compile("-?[0-9]+")
_WANTED = 'must have a first line with "path" and "label", and perhaps "split"'


@dataclass
class _Rows:
    """What is listed of one split."""

    files: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def open_csv(place: Path, sample_shape: tuple[int, int, int]) -> DataSource:
    """List the images of a CSV file, or of train.csv and test.csv (or val.csv) in a folder, in their order.

    Paths begin in the folder of the file. Labels are numbers where all of them are, or the file classes.txt
    lies beside and names each class; else they are names, whose numbers are their places among the sorted
    ones. A first line without names of columns is an image already: then there are a path and a label.

    Raises
    ------
    DataError
        The file is not such a list: names its line.
    """
    load_pillow()
    folder = place if place.is_dir() else place.parent
    listed = _read(place) if folder == place else _rows(place)
    names = read_class_names(folder)
    train = listed.pop(TRAINING, _Rows())
    tested = next(iter(listed), None)
    test = listed.pop(tested) if tested else None
    labels, names = _labels([train, *([test] if test else [])], names, place)
    said = [
        SplitLabels(its, partial(_name, place, rows))
        for rows, its in zip(filter(None, (train, test)), labels, strict=True)
    ]
    classes = classes_of(said, names, place)
    splits = [
        ImageFolder(
            name="csv",
            sample_shape=sample_shape,
            classes=classes,
            class_names=tuple(map(printable, names)),
            root=folder,
            files=tuple(rows.files),
            labels=its,
        )
        for rows, its in zip([train, test], labels, strict=False)
        if rows
    ]
    notes = tuple(f"csv: passed over: {len(rows.files):,} of the {kind} set" for kind, rows in listed.items())
    return DataSource(splits[0], splits[1] if test else None, notes=notes)


def _name(place: Path, rows: _Rows, index: int) -> str:
    """Return what errors call the label of a sample."""
    return f"{place}: {rows.files[index]}"


def _read(folder: Path) -> dict[str, _Rows]:
    """Read the lists of a folder, one a split."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.csv")):
        kind = split_kind(path.stem)
        if kind in found:
            raise DataError.at(
                folder, f"has {found[kind].name} and {path.name}: two {kind} sets; must be one"
            )
        if kind:
            found[kind] = path
    if TRAINING not in found:
        raise DataError.at(
            folder, "has no train.csv; csv:FILE wants a list, or a folder of train.csv and test.csv"
        )
    listed = {}
    for kind in (TRAINING, TESTING, VALIDATION):
        if kind in found:
            rows = _rows(found[kind])
            if rows.keys() != {TRAINING}:
                raise DataError.at(found[kind], "says splits of its own; give the file itself: csv:FILE")
            listed[kind] = rows[TRAINING]
    return listed


def _rows(path: Path) -> dict[str, _Rows]:
    """Read one list: the rows of each split that it names."""
    if not path.exists():
        raise DataError.at(path, 'no such file; csv:FILE wants a list of "path,label"')
    listed: dict[str, _Rows] = {}
    reader = csv.reader(_lines(path), strict=True)
    columns: tuple[int, int, int] | None = None
    try:
        for row in filter(None, reader):
            if columns is None:
                columns, is_header = _columns(row)
                if is_header:
                    continue
            file, label, kind = _fields(row, columns)
            rows = listed.setdefault(kind, _Rows())
            rows.files.append(file)
            rows.labels.append(label)
    except (ValueError, csv.Error) as error:
        raise DataError.at(path, f"line {reader.line_num}: {error}") from error
    if not listed.get(TRAINING):
        raise DataError.at(path, "lists no images to train on")
    order = (TRAINING, TESTING, VALIDATION)
    return {kind: listed[kind] for kind in order if kind in listed}


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).removeprefix("\ufeff").splitlines()
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError.at(path, f"is no text: {error}") from error


def _columns(row: Sequence[str]) -> tuple[tuple[int, int, int], bool]:
    """Return which columns hold path, label and split (-1: none does), and whether the row names them."""
    names = [name.strip().lower() for name in row]
    path, label, split = (
        next((names.index(name) for name in allowed if name in names), -1)
        for allowed in (_PATH, _LABEL, _SPLIT)
    )
    if path >= 0 and label >= 0:
        return (path, label, split), True
    if len(row) == 2 and Path(row[0]).suffix.lower() in image_endings():
        return (0, 1, -1), False
    raise ValueError(f'got "{shortened(",".join(row))}"; {_WANTED}')


def _fields(row: Sequence[str], columns: tuple[int, int, int]) -> tuple[str, str, str]:
    path, label, split = columns
    if max(columns) >= len(row):
        raise ValueError(f"has {len(row)} of {max(columns) + 1} columns")
    file, said = row[path].strip(), row[split].strip() if split >= 0 else ""
    kind = split_kind(said) if said else TRAINING
    if kind is None:
        hint = did_you_mean(said, ("train", "test", "val"))
        raise ValueError(f'split "{shortened(said, 40)}"{hint}; must be train, test or val')
    if not file or "\0" in file:
        raise ValueError("names no file")
    return file, row[label].strip(), kind


def _labels(
    listed: list[_Rows], names: tuple[str, ...], where: Path
) -> tuple[list[NDArray[np.int32]], tuple[str, ...]]:
    """Return the labels of each split, and the names of classes that follow from them."""
    train = set(listed[0].labels)
    if not names and not all(map(_NUMBER.fullmatch, train)):
        names = tuple(sorted(train))
        if not all(map(is_name, names)):
            raise DataError.at(where, "has an empty label, or one with control characters; must be a name")
    numbers = {name: label for label, name in enumerate(names)}
    labels = []
    for rows in listed:
        try:
            labels.append(as_labels([label_in(text, numbers) for text in rows.labels]))
        except ValueError as error:
            raise DataError.at(where, error) from error
    return labels, names
