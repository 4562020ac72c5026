"""Mixup and CutMix: training samples that are made of two, keyed by (seed, epoch, sample)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.counter import Stream, random_words

_PARTNER, _COIN, _ROW, _COLUMN, _FIRST_PAIR = range(5)  # words of a sample, by what they decide
_PAIRS = 64
_MOST_PRODUCTS = 100
_WORDS = 1 << 64


@dataclass(frozen=True)
class Mix:
    """How samples are mixed: shares are of Beta(a, a) with a = `mixup` or `cutmix`; 0: not so.

    Mixup (Zhang et al. 2018, arXiv:1710.09412) adds a share of one sample and the rest of another; CutMix
    (Yun et al. 2019, arXiv:1905.04899) puts a box of the other in its place. With both a coin decides. The
    other sample is any of the training set, so nothing depends on what else is in the minibatch, or on ranks.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Raise UserError for a number that cannot be drawn exactly, or samples without an area."""
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            if value and (value < 1 / _MOST_PRODUCTS or 1 / round(1 / value) != value):
                raise UserError(
                    f"{name}: got {value}; must be 0, or 1 over a whole number up to {_MOST_PRODUCTS}, as 0.2"
                )
        if self.cutmix and len(sample_shape) != 3:
            raise UserError(f"cutmix: samples have shape {sample_shape}; must be images (C, H, W), or 0")

    def partner(self, length: int, *, seed: int, epoch: int, sample: int) -> int:
        """Return the sample of so many that this one is mixed with; it may be itself."""
        return _words(seed, epoch, sample)[_PARTNER] % length

    def apply(
        self, x: NDArray[np.float32], other: NDArray[np.float32], *, seed: int, epoch: int, sample: int
    ) -> float:
        """Mix x in place, and return the share that it keeps; `other` is overwritten."""
        words = _words(seed, epoch, sample)
        cuts = self.cutmix > 0 and (self.mixup == 0 or words[_COIN] & 1 == 1)
        share = _share(words[_FIRST_PAIR:], round(1 / (self.cutmix if cuts else self.mixup)))
        if cuts:
            return _cut(x, other, share, words[_ROW], words[_COLUMN])
        x *= np.float32(share)
        other *= np.float32(1 - share)
        x += other
        return share


def _words(seed: int, epoch: int, sample: int) -> list[int]:
    count = _FIRST_PAIR + 2 * _PAIRS
    found: list[int] = random_words(Stream.MIX, count, seed=seed, counter=(sample, epoch)).tolist()
    return found


def _share(words: list[int], exponent: int) -> float:
    """Return a number of Beta(1 / exponent, 1 / exponent), by products and a quotient (Joehnk 1964)."""
    for one, other in zip(words[::2], words[1::2], strict=True):
        x, y = (_power(word / _WORDS, exponent) for word in (one, other))
        if 0 < x + y <= 1:
            return x / (x + y)
    return 0.5  # after 64 pairs, each of which is taken more often than not


def _power(base: float, exponent: int) -> float:
    """Return a power by products: the C library's differ between versions."""
    product = 1.0
    for _ in range(exponent):
        product *= base
    return product


def _cut(x: NDArray[np.float32], other: NDArray[np.float32], share: float, row: int, column: int) -> float:
    """Put a box of the other image over x, of a share 1 - `share` where it fits; return what x keeps."""
    side = math.sqrt(1 - share)
    rows, columns = (
        _run(size, int(size * side), word) for size, word in zip(x.shape[1:], (row, column), strict=True)
    )
    x[:, rows, columns] = other[:, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    kept: float = 1 - area / (x.shape[1] * x.shape[2])
    return kept


def _run(size: int, length: int, word: int) -> slice:
    """Return a run of so many pixels around any of them, as far as it lies inside."""
    first = word % size - length // 2
    return slice(max(0, first), min(size, first + length))
