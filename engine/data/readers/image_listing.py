"""Which files of a folder of images are used: splits, classes, and images at any depth."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from engine.config.wording import did_you_mean, printable
from engine.data.dataset import DataError
from engine.data.readers.passed_over import FILE, FOLDER, PassedOver, kind_of

TRAINING, TESTING, VALIDATION = "training", "test", "validation"
"""Kinds of splits."""

_SPLIT_NAMES = {
    TRAINING: "train|training",
    TESTING: "test|tests|testing",
    VALIDATION: "val|valid|validation|dev|eval|evaluation",
}
_SPLITS = {
    kind: re.compile(rf"({names})([ _.-]?(set|data|dataset|images?|imgs?|split|(19|20)\d\d))*", re.I | re.A)
    for kind, names in _SPLIT_NAMES.items()
}


@dataclass(frozen=True)
class Layout:
    """Folders of class folders: one to train on and, if there is one, another to test on."""

    train: Path
    classes: tuple[str, ...]
    """Names of the folders in `train`, sorted."""
    test: Path | None


@dataclass
class Listing:
    """Lists folders and files in a fixed order, and counts what it passes over by kind."""

    endings: frozenset[str]
    """Of the files that are images, in lower case: ".jpg"."""
    passed: PassedOver = field(default_factory=PassedOver)
    wanted: str = "images; read are .jpg, .png, .webp and what else Pillow decodes"
    """What a class has none of, for errors."""

    def layout(self, directory: Path) -> Layout:
        """Find the splits of a folder; one without any is a training set of class folders.

        Of a test and a validation set the first that has class folders is tested on.

        Raises
        ------
        DataError
            What is a split and what is a class is ambiguous.
        """
        names = self.class_folders(directory)
        splits = {kind: [name for name in names if split_kind(name) == kind] for kind in _SPLIT_NAMES}
        for kind, found in splits.items():
            if len(found) > 1:
                raise DataError.at(directory, f"has {_listed(found)}: two {kind} sets; must be one")
        tests = splits[TESTING] + splits[VALIDATION]
        if splits[TRAINING]:
            (train,) = splits[TRAINING]
            whole = [name for name in tests if has_folders(directory / name)]
            test = (*whole, *tests, None)[0]
            others = [name for name in names if name not in (train, test)]
            for name in others:
                self.passed.add(name, FOLDER, f"beside {train}/")
            classes = tuple(self.class_folders(directory / train))
            return Layout(directory / train, classes, None if test is None else directory / test)
        if tests:
            raise DataError.at(
                directory,
                f"has {_listed(tests)} but no train/; a folder of this name is a split, not a class: "
                "add train/, or give a class another name",
            )
        return Layout(directory, tuple(names), None)

    def tested_classes(self, root: Path, classes: Sequence[str]) -> list[str]:
        """Return the class folders of a test set, sorted; they must be among those that are trained on."""
        names = self.class_folders(root)
        if not names:
            raise DataError.at(root, "has no class folders")
        for name in names:
            if name not in classes:
                hint = did_you_mean(name, classes)
                raise DataError.at(
                    root / name, f"is no class of the {len(classes)} that are trained on{hint}"
                )
        return names

    def class_folders(self, root: Path) -> list[str]:
        """Return the folders in `root`, sorted; what lies beside them is passed over."""
        folders = []
        with os.scandir(root) as entries:
            for entry in entries:
                kind = kind_of(entry)
                if kind == FOLDER:
                    folders.append(entry.name)
                else:
                    self.passed.add(entry.name, kind, "outside the class folders")
        return sorted(folders)

    def images(self, root: Path, class_name: str) -> list[str]:
        """Return the images of a class, at any depth, relative to root and sorted.

        A folder that links lead to again, perhaps in a circle, is listed where it is met first.

        Raises
        ------
        DataError
            The class has no images, or splits of its own.
        OSError
            A folder cannot be read.
        """
        found: list[str] = []
        met: set[tuple[int, int]] = set()
        before = self.passed.counts.copy()
        waiting = [class_name]
        while waiting:
            inside = waiting.pop()
            here = (root / inside).stat()
            if (here.st_dev, here.st_ino) in met:
                continue
            met.add((here.st_dev, here.st_ino))
            folders = self._list(root, inside, found)
            if inside == class_name:
                _refuse_splits(root / class_name, folders)
            waiting += [f"{inside}/{name}" for name in sorted(folders, reverse=True)]
        if not found:
            reason = PassedOver(self.passed.counts - before).line()
            raise DataError.at(
                root / class_name,
                f"has no {self.wanted}{reason and f'; {reason}'}",
            )
        return sorted(found)

    def _list(self, root: Path, inside: str, found: list[str]) -> list[str]:
        """Append the images of one folder to `found` and return its folders."""
        folders = []
        with os.scandir(root / inside) as entries:
            for entry in entries:
                kind = kind_of(entry)
                if kind == FOLDER:
                    folders.append(entry.name)
                elif kind == FILE and PurePath(entry.name).suffix.lower() in self.endings:
                    found.append(f"{inside}/{entry.name}")
                else:
                    self.passed.add(entry.name, kind)
        return folders


def split_kind(name: str) -> str | None:
    """Return the kind of split that a folder is named after, in any case; None for the name of a class."""
    return next((kind for kind, pattern in _SPLITS.items() if pattern.fullmatch(name)), None)


def _refuse_splits(folder: Path, names: Sequence[str]) -> None:
    """Refuse a class folder that holds a training set and another: all of it would be trained on."""
    kinds = {split_kind(name): name for name in names}
    if TRAINING in kinds and len(kinds.keys() & _SPLIT_NAMES.keys()) > 1:
        splits = _listed(name for kind, name in kinds.items() if kind)
        raise DataError.at(
            folder, f"has {splits}: splits inside a class; must be train/{printable(folder.name)}/ instead"
        )


def has_folders(root: Path) -> bool:
    """Say whether a folder has folders in it."""
    with os.scandir(root) as entries:
        return any(kind_of(entry) == FOLDER for entry in entries)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"{printable(name)}/" for name in names)
