"""The contract of a data set: a length, and one sample at a time written where the caller says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError


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
        How many different labels there are.
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


@dataclass(frozen=True)
class DataSource:
    """What to train on, and what to test on, if there is anything."""

    train: Dataset
    test: Dataset | None
