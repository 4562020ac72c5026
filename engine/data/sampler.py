"""Order of the samples: which one sits in which place of which minibatch, the same on all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.counter import Stream, permutation
from engine.data.weighted_sampling import WeightedSampling
from engine.data.windows import Windows

ABSENT = -1
"""Index of a place in a minibatch for which the data set has no sample."""


@dataclass(frozen=True, eq=False)
class Share:
    """A minibatch, or a rank's part of one: indices into the data set (int64 [n]), ABSENT where none."""

    epoch: int
    samples: NDArray[np.int64]
    microbatch: int = 0
    """Which one, where a rank takes its part in microbatches."""
    places: NDArray[np.int64] | None = None
    """int64 [n], places in the epoch, where a sample may have several; None: each sample comes once."""
    order: NDArray[np.int64] | None = None
    """All samples of the epoch by place, with `places`."""

    @property
    def keys(self) -> NDArray[np.int64]:
        """Return what keys all that is random of a sample, int64 [n], other numbers within an epoch.

        It is the sample's index, and the place where samples are drawn with replacement: two that are the
        same are augmented in two ways.
        """
        return self.samples if self.places is None else self.places

    def rows(self, rows: slice, microbatch: int = 0) -> Share:
        """Take only these places of the minibatch."""
        places = None if self.places is None else self.places[rows]
        return Share(self.epoch, self.samples[rows], microbatch, places, self.order)


@dataclass(frozen=True)
class Sampler:
    """Minibatches for training: each epoch takes each sample at most once, in an order of its own.

    The samples that do not fill a last minibatch are left out; they differ from epoch to epoch. With
    `weighted` samples are drawn with replacement, and an epoch has as many. With `windows` they come in the
    order in which they lie, shuffled in windows.
    """

    length: int
    batch: int
    seed: int
    weighted: WeightedSampling | None = None
    windows: Windows | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.length:
            raise UserError(
                f"minibatch: got {self.batch} with {self.length} training samples; "
                f"must be from 1 to {self.length}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Count the whole minibatches of an epoch."""
        return self.length // self.batch

    @property
    def dropped(self) -> int:
        """Count the samples that an epoch leaves out."""
        return self.length % self.batch

    def training(self, first_step: int = 0) -> Iterator[Share]:
        """Yield the global minibatches without end, from this step of the whole run on."""
        first_epoch, first = divmod(first_step, self.steps_per_epoch)
        for epoch in count(first_epoch):
            whole = self._epoch(epoch)
            for step in range(first, self.steps_per_epoch):
                yield whole.rows(slice(step * self.batch, (step + 1) * self.batch))
            first = 0

    def _epoch(self, epoch: int) -> Share:
        """Return all samples of an epoch in their order."""
        if self.windows is not None:
            return Share(epoch, self.windows.order(self.seed, epoch, self.length, self.batch))
        if self.weighted is None:
            return Share(epoch, epoch_order(self.seed, epoch, self.length))
        order = self.weighted.order(self.seed, epoch)
        return Share(epoch, order, places=np.arange(self.length, dtype=np.int64), order=order)


def epoch_order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the shuffled samples of one epoch, int64 [length]: a function of these three numbers only."""
    return permutation(Stream.SHUFFLE, length, seed=seed, counter=(0, epoch))


def evaluation(length: int, batch: int) -> Iterator[Share]:
    """Yield every sample once, in order; the places left over in the last minibatch are ABSENT."""
    for start in range(0, length, batch):
        places = np.arange(start, start + batch, dtype=np.int64)
        yield Share(0, np.where(places < length, places, ABSENT))
