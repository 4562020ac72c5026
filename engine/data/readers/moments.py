"""Mean and deviation of features, added in an order that is the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_PART = 1e-12  # of the mean square: less is the rounding of a constant


@dataclass
class Moments:
    """Sums over frames, float64 [F] each."""

    frames: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def none(cls, columns: int) -> Moments:
        """Return those of no frames."""
        return cls(0, np.zeros(columns), np.zeros(columns))

    def add(self, features: NDArray[np.float32]) -> None:
        """Add frames, float32 [n, F], n at least 1."""
        wide = features.astype(np.float64)
        self.frames += len(features)
        self.total += fixed_sum(wide)
        self.squares += fixed_sum(wide * wide)

    def mean_and_scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean, and what deviations from it are multiplied by, [F] each.

        It is 1 over the standard deviation; 1 for a feature that is constant.
        """
        mean, square = self.total / self.frames, self.squares / self.frames
        variance = square - mean * mean
        varies = variance > _LEAST_PART * square
        return mean, 1.0 / np.sqrt(np.where(varies, variance, 1.0))


def fixed_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add the rows of values, [n, ...], in pairs, the pairs in pairs, and so on.

    numpy's own sums may take another order from one version, or processor, to the next.
    """
    while len(values) > 1:
        half = len(values) // 2
        values = np.concatenate([values[:half] + values[half : 2 * half], values[2 * half :]])
    first: NDArray[np.float64] = values[0]
    return first
