"""An order of samples for data that is read in the order in which it lies: shuffled in windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.data.counter import Stream, permutation, random_words

BLOCKS = 16
"""A window has the samples of so many blocks, or one more."""


@dataclass(frozen=True)
class Windows:
    """Blocks of samples that lie side by side come in an order of their own, and samples in windows of them.

    Each leaf of the minibatch has a run of blocks for itself, so a rank reads its leaves' blocks and no
    others, one behind the other. The order is a function of the recipe: ranks share leaves out, and no more.
    """

    size: int
    """Samples of a window."""
    leaves: int
    """Of the minibatch."""

    def order(self, seed: int, epoch: int, length: int, batch: int) -> NDArray[np.int64]:
        """Return the samples of an epoch's whole minibatches, int64 [steps * batch], each once at most."""
        block = -(-self.size // BLOCKS)
        blocks = permutation(Stream.WINDOW, -(-length // block), seed=seed, counter=(0, epoch))
        lying = (blocks[:, np.newaxis] * block + np.arange(block)).reshape(-1)
        per_leaf = batch // self.leaves
        steps = length // batch
        runs = lying[lying < length][: steps * batch].reshape(self.leaves, steps * per_leaf)
        words = random_words(Stream.WINDOW, runs.size, seed=seed, counter=(1, epoch)).reshape(runs.shape)
        windows = np.broadcast_to(np.arange(runs.shape[1]) // self.size, runs.shape)
        places = np.lexsort((words, windows))
        mixed = np.take_along_axis(runs, places, axis=1)
        return mixed.reshape(self.leaves, steps, per_leaf).transpose(1, 0, 2).reshape(-1)
