"""Obvious sums over leaves, which share nothing with the engine's trees."""

from typing import Any

import numpy as np
import numpy.typing as npt


def leaf_gradients(leaves: int, floats: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return float32 [leaves, floats] of such different sizes that every other order gives other bits."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((leaves, floats)) * 10.0 ** rng.integers(-3, 4, (leaves, floats))
    return values.astype(np.float32)


def naive_tree(values: Any) -> Any:
    """Add the first half to the second half, each added the same way."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return naive_tree(values[:half]) + naive_tree(values[half:])
