"""Samples that lie in memory as numpy arrays: for data sets of one's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.config.errors import UserError
from engine.data.dataset import Labelled, digest


class ArrayDataset(Labelled):
    """Samples and labels held in memory.

    Parameters
    ----------
    x
        [N, C, H, W] or [N, F]; kept as float32, ready for the network.
    labels
        Whole numbers [N], each in [0, classes).
    classes
        By default one more than the largest label.
    name
        What the data set is called in messages.
    class_names
        What the labels stand for, one name for each class.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __init__(
        self,
        x: ArrayLike,
        labels: ArrayLike,
        *,
        classes: int = 0,
        name: str = "arrays",
        class_names: Sequence[str] = (),
    ):
        samples, numbers = np.ascontiguousarray(x, np.float32), np.asarray(labels)
        if samples.ndim not in (2, 4) or len(samples) == 0:
            raise UserError(
                f"{name}: x has shape {samples.shape}; must be [N, C, H, W] or [N, F], N at least 1"
            )
        if numbers.shape != (len(samples),) or numbers.dtype.kind not in "iu":
            got = f"{numbers.dtype} {list(numbers.shape)}"
            raise UserError(f"{name}: labels are {got}; must be {len(samples)} whole numbers")
        most = classes or int(numbers.max()) + 1
        if not 0 <= int(numbers.min()) <= int(numbers.max()) < most:
            raise UserError(
                f"{name}: labels run from {numbers.min()} to {numbers.max()}; must be from 0 to {most - 1}"
            )
        if class_names and len(class_names) != most:
            raise UserError(f"{name}: {len(class_names)} class names; must be one for each of {most} classes")
        super().__init__(
            name=name, sample_shape=samples.shape[1:], classes=most, class_names=tuple(class_names)
        )
        object.__setattr__(self, "x", samples)
        object.__setattr__(self, "labels", numbers.astype(np.int64))

    def __len__(self) -> int:
        return len(self.x)

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Copy one sample into x and return its label."""
        x[...] = self.x[index]
        return int(self.labels[index])

    def fingerprint(self) -> str:
        """Hash samples and labels."""
        return digest(self.x, self.labels)
