"""Standard normal numbers by key, as initial weights are drawn: the same on every machine, in any version."""

from collections.abc import Sequence

import numpy as np

from layers.kernels import normal
from layers.layer import Array

_WORDS = 1 << 15  # of 64 bits, drawn at a time


class NormalNumbers:
    """A stream of standard normal numbers that follows from its key.

    The raw words of Philox, which NumPy promises never to change, made into numbers by a kernel: NumPy's own
    distributions may change from one version to the next, and ask the C library for logarithms.
    """

    def __init__(self, key: Sequence[int]):
        self._philox = np.random.Philox(key=key)
        self._words = np.empty(0, np.uint32)

    def fill(self, numbers: Array) -> None:
        """Overwrite an array (float32, contiguous) with the next numbers."""
        assert numbers.flags.c_contiguous
        left = numbers.reshape(-1)
        while len(left):
            used, made = normal.fill(self._words, left)
            left, self._words = left[made:], self._words[used:]
            if len(left):
                drawn = self._philox.random_raw(_WORDS).astype("<u8", copy=False).view("<u4")
                self._words = np.concatenate([self._words, drawn])
