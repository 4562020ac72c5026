"""Synthetic samples of any shape that can be learned, at the cost of one addition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.data.counter import Stream, permutation, random_words
from engine.data.dataset import Dataset, digest

_ROOM = 1 << 16
_NOISE, _PATTERNS, _NOISE_STARTS, _PATTERN_STARTS = range(4)


@dataclass(frozen=True, eq=False)
class Synthetic(Dataset):
    """Half noise, half the pattern of the class: about zero mean and unit variance.

    Both halves are slices of two pools drawn once. Where a slice starts follows from the seed and the
    sample's index (noise) or its class (pattern). The label of sample i is i modulo the classes.
    """

    noise: NDArray[np.float32]
    noise_starts: NDArray[np.int64]
    patterns: NDArray[np.float32]
    pattern_starts: NDArray[np.int64]

    ALWAYS_FINITE: ClassVar[bool] = True

    @classmethod
    def make(cls, sample_shape: tuple[int, ...], *, classes: int, length: int, seed: int) -> Synthetic:
        """Draw the pools for `length` samples of `classes` classes."""
        features = math.prod(sample_shape)
        room = max(_ROOM, classes)
        starts = random_words(Stream.SYNTHETIC, length, seed=seed, counter=(_NOISE_STARTS, 0))
        shuffled = permutation(Stream.SYNTHETIC, room, seed=seed, counter=(_PATTERN_STARTS, 0))
        return cls(
            name="synthetic",
            sample_shape=sample_shape,
            classes=classes,
            noise=_pool(features + room, seed=seed, use=_NOISE),
            noise_starts=(starts % np.uint64(room)).astype(np.int64),
            patterns=_pool(features + room, seed=seed, use=_PATTERNS),
            pattern_starts=shuffled[:classes],
        )

    def __len__(self) -> int:
        return len(self.noise_starts)

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Add the sample's noise and its class's pattern into x and return the class."""
        label = index % self.classes
        noise = self.noise[self.noise_starts[index] :][: x.size]
        pattern = self.patterns[self.pattern_starts[label] :][: x.size]
        np.add(noise.reshape(x.shape), pattern.reshape(x.shape), out=x)
        return label

    def all_labels(self) -> NDArray[np.int64]:
        """Return the labels, which follow from the places."""
        return np.arange(len(self), dtype=np.int64) % self.classes

    def fingerprint(self) -> str:
        """Hash all that was drawn."""
        return digest(self.noise, self.noise_starts, self.patterns, self.pattern_starts)


def _pool(size: int, *, seed: int, use: int) -> NDArray[np.float32]:
    """Draw uniform numbers of mean 0 and variance 1/2.

    24 random bits fill a float32 exactly, and no library function is called: the same bits everywhere.
    """
    words = random_words(Stream.SYNTHETIC, size, seed=seed, counter=(use, 0))
    uniform = (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return (uniform - np.float32(0.5)) * np.float32(math.sqrt(6.0))
