"""Training samples drawn with replacement, by the weight of their class, keyed by (seed, epoch, place)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from engine.config.recipe import BALANCED
from engine.data.counter import Stream, random_words
from engine.data.dataset import Dataset
from engine.data.labels import Asked, class_counts, exact_weights, labels_of

_WORDS = 1 << 64


@dataclass(frozen=True, eq=False)
class WeightedSampling:
    """Draws the samples of an epoch, as many as there are: a class first, then a sample of it.

    A sample is drawn with a probability proportional to the weight of its class, as by PyTorch's
    WeightedRandomSampler. A draw compares whole numbers, so it is the same on every machine.

    Attributes
    ----------
    by_class
        int64 [N]: the samples that can be drawn, those of one class behind those of another.
    starts, counts
        int64 [K]: where each of the K classes begins there, and how many samples it has.
    bounds
        uint64 [K - 1]: a random word that is less than so many of them means that class.
    length
        Draws of an epoch.
    """

    by_class: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    bounds: NDArray[np.uint64]
    length: int

    def parts(self) -> list[float]:
        """Return the part of each class among the draws; classes that are never drawn are left out."""
        ends = [0, *map(int, self.bounds), _WORDS]
        return [(end - start) / _WORDS for start, end in pairwise(ends)]

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the samples of one epoch, int64 [length]; the words of a place are its own."""
        words = random_words(Stream.DRAW, 2 * self.length, seed=seed, counter=(0, epoch))
        drawn = np.searchsorted(self.bounds, words[::2], side="right")
        counts = self.counts[drawn]
        inside = (words[1::2] % counts.astype(np.uint64)).astype(np.int64)
        return np.take(self.by_class, self.starts[drawn] + inside)


def weighted_sampling(asked: Asked, data: Dataset) -> WeightedSampling | None:
    """Return how samples are drawn, from `Recipe.sampling`; None where each comes once an epoch.

    Raises
    ------
    UserError
        See `labels_of` and `exact_weights`.
    """
    if isinstance(asked, str) and asked != BALANCED:
        return None
    labels = labels_of(data, "sampling")
    counts = class_counts(labels, data.classes)
    weights = exact_weights(asked, data, counts, "sampling")
    parts = [weight * count / len(data) for weight, count in zip(weights, counts, strict=True)]
    chosen = [label for label, part in enumerate(parts) if part]
    ends = list(accumulate(parts[label] for label in chosen))
    order, starts = np.argsort(labels, kind="stable"), np.cumsum([0, *counts])
    return WeightedSampling(
        by_class=order.astype(np.int64, copy=False),
        starts=starts[chosen],
        counts=np.array(counts, np.int64)[chosen],
        bounds=np.array([int(end * _WORDS) for end in ends[:-1]], np.uint64),
        length=len(data),
    )
