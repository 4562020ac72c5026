"""Which WAV files of a folder are used, and what their labels are: class folders, or names of files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from engine.config.wording import counted, printable
from engine.data.dataset import DataError
from engine.data.readers.image_listing import Listing
from engine.data.readers.passed_over import FILE, FOLDER, kind_of

ENDING = ".wav"
TEST_TAKES = 5
"""Of files named LABEL_SPEAKER_TAKE.wav, as the Free Spoken Digit Dataset's, lower takes are the test set."""
_NAMED = re.compile(r"(?P<label>[^_]+)_.+", re.DOTALL)
_TAKE = re.compile(r"[^_]+_[^_]+_(?P<take>[0-9]{1,9})\.wav", re.DOTALL | re.IGNORECASE)
_INNER = "recordings"  # of the Free Spoken Digit Dataset


@dataclass(frozen=True)
class Split:
    """Files of one split, relative to a folder, with the name of the class of each."""

    root: Path
    files: tuple[str, ...]
    names: tuple[str, ...]


def list_recordings(directory: Path, least_classes: int) -> tuple[Split, Split | None, tuple[str, ...]]:
    """Return the training set, the test set if there is one, and notes.

    Raises
    ------
    DataError
        There are too few classes, or the test set has one that is not trained on.
    OSError
        A folder cannot be read.
    """
    listing = Listing(frozenset((ENDING,)), wanted=f"recordings; read are {ENDING} files")
    inner = directory / _INNER
    layout = listing.layout(inner if inner.is_dir() else directory)
    notes: list[str] = []
    if layout.classes:
        train = _by_folder(listing, layout.train, layout.classes)
        test = None
        if layout.test is not None:
            test = _by_folder(
                listing, layout.test, tuple(listing.tested_classes(layout.test, layout.classes))
            )
    else:
        train = _by_name(listing, layout.train)
        test = None if layout.test is None else _by_name(listing, layout.test)
        if test is None:
            train, test = _by_take(train)
            if test is not None:
                notes.append(f"wav: takes 0 to {TEST_TAKES - 1} of each speaker and label are the test set")
    classes = set(train.names)
    if len(classes) < least_classes:
        raise DataError.at(
            layout.train,
            f"has recordings of {counted(len(classes), 'class')}; must be at least {least_classes}",
        )
    for name in () if test is None else test.names:
        if name not in classes:
            assert test is not None
            raise DataError.at(test.root, f"has recordings of {printable(name)}, which is not trained on")
    passed = listing.passed.line()
    return train, test, (*notes, *((f"wav: {passed}",) if passed else ()))


def _by_folder(listing: Listing, root: Path, classes: tuple[str, ...]) -> Split:
    """List class folders."""
    found = {name: listing.images(root, name) for name in classes}
    names = tuple(name for name, files in found.items() for _ in files)
    return Split(root, tuple(file for files in found.values() for file in files), names)


def _by_name(listing: Listing, root: Path) -> Split:
    """List the files of one folder whose names begin with a label and an underscore."""
    listing.passed.counts.clear()  # of looking for class folders: the files themselves
    files = []
    with os.scandir(root) as entries:
        for entry in entries:
            kind = kind_of(entry)
            if kind == FILE and PurePath(entry.name).suffix.lower() == ENDING:
                files.append(entry.name)
            elif kind != FOLDER:
                listing.passed.add(entry.name, kind)
    if not files:
        raise DataError.at(root, f"has neither class folders nor {ENDING} files")
    found = sorted((_label(root, file), file) for file in files)
    return Split(root, tuple(file for _, file in found), tuple(label for label, _ in found))


def _label(root: Path, file: str) -> str:
    match = _NAMED.fullmatch(file)
    if match is None:
        raise DataError.at(
            root / file, "has no label in its name; must be LABEL_...wav, or in a folder of its class"
        )
    return match["label"]


def _by_take(whole: Split) -> tuple[Split, Split | None]:
    """Part files that are numbered by take into a training set and a test set."""
    takes = [_TAKE.fullmatch(file) for file in whole.files]
    tested = [match is not None and int(match["take"]) < TEST_TAKES for match in takes]
    if not all(takes) or all(tested) or not any(tested):
        return whole, None
    return _part(whole, [not each for each in tested]), _part(whole, tested)


def _part(whole: Split, chosen: list[bool]) -> Split:
    pairs = [
        pair for pair, is_in in zip(zip(whole.files, whole.names, strict=True), chosen, strict=True) if is_in
    ]
    files, names = zip(*pairs, strict=True)
    return Split(whole.root, files, names)
