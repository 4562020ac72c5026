"""The contract of a data set: a length, and samples that are read one by one into the caller's array."""

from __future__ import annotations

import hashlib
import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.wording import counted, is_name, printable, shortened
from engine.data.preprocessing import Preprocessing


class DataError(UserError):
    """A file or folder of a data set that is missing, empty, cut short or not what it should be."""

    @classmethod
    def at(cls, path: str | PathLike[str], problem: object) -> DataError:
        """Name the file and the problem on one line, whatever bytes the file's name has."""
        return cls(f"{printable(path)}: {problem}")

    @classmethod
    def no_folder(cls, path: Path, wanted: str) -> DataError:
        """Say that a path leads to no folder, and which one is wanted."""
        what = "is a file, not a folder" if path.exists() else "no such folder"
        return cls.at(path, f"{what}; {wanted}")


@dataclass(frozen=True, eq=False)
class Dataset(ABC):
    """Samples numbered from 0, each with a label in [0, classes).

    Reading is a function of the index alone: never of the rank that reads, or of what was read before.

    Attributes
    ----------
    name
        The kind of data, as the user writes it: "cifar10".
    sample_shape
        (C, H, W) for images, (F,) for features.
    classes
        Number of different labels.
    class_names
        What the labels stand for, in their order; empty where nobody has named them.
    """

    name: str
    sample_shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...] = field(default=(), kw_only=True)

    READS_ON_THREADS: ClassVar[bool] = False
    """Several threads may call `read` and `inspect` at once."""
    NOUN: ClassVar[str] = ""
    """What a sample is called; by default "image" where it has three dimensions, and else "sample"."""
    ALWAYS_FINITE: ClassVar[bool] = False
    """Samples are made of pixels, or drawn: nobody looks for values that are not finite."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to a sample when it is read; of unknown data the shape alone."""
        return Preprocessing(self.sample_shape)

    @property
    def decoders(self) -> tuple[str, ...]:
        """What of the image library the samples depend on, as `engine.data.readers.probe` names it."""
        return ()

    @property
    def classes_present(self) -> int:
        """Count the labels that samples have, where that is known; else all of them."""
        return self.classes

    @abstractmethod
    def __len__(self) -> int:
        """Count the samples."""

    @abstractmethod
    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Overwrite x (float32 `sample_shape`) with the normalised sample; return its label.

        Raises
        ------
        DataError
            The sample's file cannot be read.
        """

    def all_labels(self) -> NDArray[np.integer[Any]] | None:
        """Return the labels of all samples, [N], where no sample must be read for them; else None."""
        return None

    def inspect(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Read a sample to see whether it can be used; return its label and the shape of what is stored.

        Raises
        ------
        DataError
            It cannot be read, has no label of the data set, or values that are not finite.
        """
        x = np.empty(self.sample_shape, np.float32)
        label = self.read(index, x)
        wrong = mistake_in(self, label, x)
        if wrong is not None:
            raise DataError.at(f"sample {index}", wrong)
        return int(label), self.sample_shape

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash that is equal on ranks, and in a run and its resumption, if the samples are.

        The place of the data is no part of it; where samples are files, their content is none either.
        """


class Labelled(Dataset):
    """Samples whose labels are all known without reading one: `labels`, [N], whole numbers."""

    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes_present(self) -> int:
        """Count the labels that samples have."""
        return len(np.unique(self.labels))

    def all_labels(self) -> NDArray[np.integer[Any]]:
        """Return the labels."""
        return self.labels


def mistake_in(data: Dataset, label: Any, x: NDArray[np.float32]) -> str | None:
    """Return what is wrong with a sample that has been read, such as "has label 7; ..."; None if it is good.

    Data may be a user's own: its labels may be anything, and its values not finite.
    """
    try:
        number = operator.index(label)
    except TypeError:
        return f"has label {label!r}; must be a whole number from 0 to {data.classes - 1}"
    if not 0 <= number < data.classes:
        return f"has label {number}; must be from 0 to {data.classes - 1}"
    if not data.ALWAYS_FINITE and not np.isfinite(x).all():
        return "has values that are not finite"
    return None


@dataclass(frozen=True)
class DataSource:
    """Samples to train on, and samples to test on if there are any.

    Attributes
    ----------
    notes
        What the user should know of how the data was read, a line each.
    """

    train: Dataset
    test: Dataset | None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise UserError where a user's own parts are not what they must be."""
        _check(self.train, "train")
        if self.test is not None:
            _check(self.test, "test")
        notes: Any = self.notes
        if not isinstance(notes, tuple | list) or not all(isinstance(each, str) for each in notes):
            raise UserError(f"notes: got {shortened(repr(notes))}; must be lines of text")

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels stand for; their numbers where nobody has named them."""
        return self.train.class_names or tuple(map(str, range(self.train.classes)))

    def splits(self) -> tuple[Dataset, ...]:
        """Return the training set, and the test set where there is one."""
        return (self.train,) if self.test is None else (self.train, self.test)

    def lines(self) -> list[str]:
        """Return what a user should know before training: the size of each split, and the notes."""
        splits = {"training": self.train, "test": self.test}
        sizes = [f"{name}: {_size(data)}" for name, data in splits.items() if data is not None]
        return ["; ".join(sizes), *self.notes]

    @cached_property
    def identity(self) -> str:
        """Kind and fingerprint of the training set."""
        return f"{self.train.name} {self.train.fingerprint()}"

    @cached_property
    def test_identity(self) -> str:
        """Fingerprint and size of the test set; "none" where there is none."""
        if self.test is None:
            return "none"
        return f"{self.test.fingerprint()} ({counted(len(self.test), 'sample')})"


def _check(data: Any, split: str) -> None:
    """Raise UserError where a data set, which may be a user's own, says of itself what cannot be."""
    if not isinstance(data, Dataset):
        also = " or None" if split == "test" else ""
        raise UserError(f"{split}: got {type(data).__name__}; must be a Dataset{also}, such as ArrayDataset")
    if type(data.name) is not str:
        raise UserError(f"{split}: its name is {data.name!r}; must be text")
    if not _is_whole(data.classes) or data.classes < 1:
        raise UserError(f"{data.name}: classes is {data.classes!r}; must be a whole number, at least 1")
    shape = data.sample_shape
    if not (type(shape) is tuple and shape and all(_is_whole(size) and size > 0 for size in shape)):
        raise UserError(f"{data.name}: sample_shape is {shape!r}; must be a tuple of sizes, each at least 1")
    try:
        len(data)
    except (TypeError, ValueError, OverflowError) as error:  # Python's own words
        raise UserError(f"{data.name}: len: {error}; must be a whole number, at least 0") from error
    _check_names(data)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _check_names(data: Dataset) -> None:
    if type(data.class_names) is not tuple:
        raise UserError(
            f"{data.name}: class_names is {shortened(repr(data.class_names))}; must be a tuple of texts"
        )
    if data.class_names and len(data.class_names) != data.classes:
        raise UserError(
            f"{data.name}: has {counted(len(data.class_names), 'class name')}; must be one for each of "
            f"{data.classes} classes, or none"
        )
    for name in data.class_names:
        if not is_name(name):
            raise UserError(
                f"{data.name}: has the class name {name!r}; must be text without control characters"
            )


def _size(data: Dataset) -> str:
    """Return a split's size: "500 images in 10 classes"."""
    kind = data.NOUN or ("image" if len(data.sample_shape) == 3 else "sample")
    present = data.classes_present
    missing = "" if present == data.classes else f"{present} of "
    return f"{counted(len(data), kind)} in {missing}{data.classes} classes"


def digest(*parts: str | bytes | NDArray[Any]) -> str:
    """Hash texts, bytes and arrays, in this order, for `Dataset.fingerprint`."""
    total = hashlib.sha256()
    for part in parts:
        content: Any = part.encode() if isinstance(part, str) else part
        if isinstance(part, np.ndarray):
            content = np.ascontiguousarray(part).data
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:16]
