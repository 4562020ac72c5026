"""Moments of runs of samples, and sums over them, merged as a balanced binary tree: neighbours first.

Rows are float64 [runs, 2, C]. Only sums, products and quotients of elements: the same bits on every machine.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

quietly = np.errstate(over="ignore", invalid="ignore", divide="ignore")
"""Decorates what computes with moments: a run that diverges is seen by its loss, and NumPy need not warn."""

Addends = TypeVar("Addends", Rows, NDArray[np.float32])


@quietly
def merge_moments(rows: Rows, count: int, per_run: int) -> Rows:
    """Return mean and sum of squared deviations of each run of `per_run` rows, a power of two.

    Parameters
    ----------
    rows
        Mean and sum of squared deviations from it, of `count` values each (Chan et al. 1983).
    """
    while per_run > 1:
        low, high = rows[::2], rows[1::2]
        step = high[:, 0] - low[:, 0]
        means = low[:, 0] + step * 0.5
        squares = (low[:, 1] + high[:, 1]) + step * step * (count * 0.5)
        rows = np.stack([means, squares], axis=1)
        count, per_run = 2 * count, per_run // 2
    return rows


@quietly
def add_rows(rows: Addends, per_run: int) -> Addends:
    """Return the sum of each run of `per_run` rows, a power of two."""
    while per_run > 1:
        rows, per_run = rows[::2] + rows[1::2], per_run // 2
    return rows


@quietly
def add_in_order(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums over the last axis: one after the other, as `np.sum` chooses an order of its own."""
    total = values[..., 0].copy()
    for index in range(1, values.shape[-1]):
        total += values[..., index]
    return total
