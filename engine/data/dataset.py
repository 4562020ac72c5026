"""The contract of a data set: a length, and samples that are read one by one into the caller's array."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError


class DataError(UserError):
    """A file or folder of a data set that is missing, empty, cut short or not what it should be."""

    @classmethod
    def at(cls, path: str | PathLike[str], problem: object) -> DataError:
        """Name the file and the problem on one line."""
        return cls(" ".join(f"{path}: {problem}".splitlines()))


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
    """

    name: str
    sample_shape: tuple[int, ...]
    classes: int

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

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash that is equal on ranks, and in a run and its resumption, if the samples are.

        The place of the data is no part of it; where samples are files, their content is none either.
        """


@dataclass(frozen=True)
class DataSource:
    """Samples to train on, and samples to test on if there are any."""

    train: Dataset
    test: Dataset | None

    @cached_property
    def identity(self) -> str:
        """Kind and fingerprint of the training set."""
        return f"{self.train.name} {self.train.fingerprint()}"


def digest(*parts: str | NDArray[Any]) -> str:
    """Hash texts and arrays, in this order, for `Dataset.fingerprint`."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else np.ascontiguousarray(part).data
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:16]
