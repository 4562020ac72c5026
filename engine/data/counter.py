"""Random numbers by key, not by turn: the same for whoever asks, in whatever order.

Only the raw words of Philox are used: NumPy promises never to change those, while its distributions and
permutations may change from one version to the next.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError


class Stream(IntEnum):
    """Use of random numbers: no two uses of one seed share a number."""

    SHUFFLE = 1
    AUGMENT = 2
    SYNTHETIC = 3
    DIGITS_SPLIT = 4
    MIX = 5
    DRAW = 6
    FRAME = 7
    COLOUR = 8
    ERASE = 9
    WINDOW = 10
    SUBSTITUTE = 11


def random_words(
    stream: Stream, count: int, *, seed: int, counter: tuple[int, int] = (0, 0)
) -> NDArray[np.uint64]:
    """Draw uint64 [count] random bits: a function of the stream, the seed and the counter only."""
    if not 0 <= seed < 2**64:
        raise UserError(f"seed: got {seed}; must be from 0 to 2**64 - 1")
    philox = np.random.Philox(
        key=np.array([seed, stream], np.uint64), counter=np.array([0, 0, *counter], np.uint64)
    )
    return philox.random_raw(count)


def permutation(
    stream: Stream, length: int, *, seed: int, counter: tuple[int, int] = (0, 0)
) -> NDArray[np.int64]:
    """Return 0 .. length - 1 shuffled, int64 [length], by sorting one random word for each."""
    words = random_words(stream, length, seed=seed, counter=counter)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)
