"""Parts of images that are taken away: random erasing, and cutout."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.data.counter import Stream, random_words
from engine.data.draws import between, fraction, ratio

_TRIES = 10
_AREA = (0.02, 0.33)
_LOGS_OF_RATIO = (-1.2039728043259361, 1.1939224684724346)  # of 0.3 and 3.3


def erase(x: NDArray[np.float32], probability: float, *, seed: int, epoch: int, sample: int) -> None:
    """Put zeros, the mean colour, into a box of float32 [C, H, W] with this probability.

    Zhong et al. 2020, arXiv:1708.04896: a box of 2 to 33 % of the area, of a shape from 3:10 to 33:10.
    """
    whether, *words = _words(seed, epoch, sample)
    if fraction(whether) >= probability:
        return
    height, width = x.shape[1:]
    for of_area, of_shape, down, right in zip(*(words[first:-2:4] for first in range(4)), strict=True):
        area = height * width * between(of_area, *_AREA)
        shape = ratio(of_shape, *_LOGS_OF_RATIO)
        high, wide = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < high < height and 0 < wide < width:
            top, left = down % (height - high + 1), right % (width - wide + 1)
            x[:, top : top + high, left : left + wide] = 0.0
            return


def cut_out(x: NDArray[np.float32], side: int, *, seed: int, epoch: int, sample: int) -> None:
    """Put zeros, the mean colour, into a square around any pixel, as far as it lies inside.

    DeVries and Taylor 2017, arXiv:1708.04552.
    """
    *_, down, right = _words(seed, epoch, sample)
    rows, columns = (
        slice(max(0, word % size - side // 2), word % size - side // 2 + side)
        for word, size in ((down, x.shape[1]), (right, x.shape[2]))
    )
    x[:, rows, columns] = 0.0


def _words(seed: int, epoch: int, sample: int) -> list[int]:
    """Return one word, four for each try, and two."""
    found: list[int] = random_words(
        Stream.ERASE, 1 + 4 * _TRIES + 2, seed=seed, counter=(sample, epoch)
    ).tolist()
    return found
