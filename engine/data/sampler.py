"""Order of the samples: which one sits in which place of which minibatch, the same on all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.counter import Stream, permutation

ABSENT = -1
"""Index of a place in a minibatch for which the data set has no sample."""


@dataclass(frozen=True, eq=False)
class Share:
    """A minibatch, or a rank's part of one: indices into the data set (int64 [n]), ABSENT where none."""

    epoch: int
    samples: NDArray[np.int64]
    microbatch: int = 0
    """Which one, where a rank takes its part in microbatches."""

    def rows(self, rows: slice, microbatch: int = 0) -> Share:
        """Take only these places of the minibatch."""
        return Share(self.epoch, self.samples[rows], microbatch)


@dataclass(frozen=True)
class Sampler:
    """Minibatches for training: each epoch takes each sample at most once, in an order of its own.

    The samples that do not fill a last minibatch are left out; they differ from epoch to epoch.
    """

    length: int
    batch: int
    seed: int

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
            order = epoch_order(self.seed, epoch, self.length)
            for step in range(first, self.steps_per_epoch):
                yield Share(epoch, order[step * self.batch : (step + 1) * self.batch])
            first = 0


def epoch_order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the shuffled samples of one epoch, int64 [length]: a function of these three numbers only."""
    return permutation(Stream.SHUFFLE, length, seed=seed, counter=(0, epoch))


def evaluation(length: int, batch: int) -> Iterator[Share]:
    """Yield every sample once, in order; the places left over in the last minibatch are ABSENT."""
    for start in range(0, length, batch):
        places = np.arange(start, start + batch, dtype=np.int64)
        yield Share(0, np.where(places < length, places, ABSENT))
