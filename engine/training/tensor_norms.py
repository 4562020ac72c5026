"""Norms of the tensors of a bucket, whose weights lie in strips of many ranks."""

import math
from collections.abc import Callable

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, Request
from comm.job import Job
from layers.kernels.sum_of_squares import LIMBS, Limbs, rounded_sum


class TensorNorms:
    """Two norms of each tensor of a bucket, the same bits on any ranks, strips and plans.

    The sums of squares are exact, so there is no order in which they are added; they are rounded once. A
    plan's ranks hold parts of a tensor: sums are over all ranks of the run, whoever shares the bucket.
    """

    def __init__(self, tensors: int, world: Collectives, queue: CommandQueue):
        self._world, self._queue = world, queue
        self._sums = np.zeros((world.communicator.size, tensors, 2, LIMBS), np.int64)
        self._norms: list[tuple[float, float]] | None = None

    def submit(
        self, measure: Callable[[Limbs], Job], *, name: str, priority: int, after: Request | None
    ) -> Request:
        """Start gathering the sums of squares that a job adds for the own strips, [tensors, 2, LIMBS]."""
        gather = self._world.all_gather(self._sums)
        return self._queue.submit(self._gathered(measure, gather), name=name, priority=priority, after=after)

    def _gathered(self, measure: Callable[[Limbs], Job], gather: Job) -> Job:
        self._norms = None
        own = self._sums[self._world.communicator.rank]
        own[...] = 0
        yield from measure(own)
        yield from gather

    def norms(self) -> list[tuple[float, float]]:
        """Return the two norms of each tensor, once the job has ended."""
        if self._norms is None:
            sums = self._sums.sum(axis=0)
            self._norms = [
                (math.sqrt(rounded_sum(first)), math.sqrt(rounded_sum(second))) for first, second in sums
            ]
        return self._norms
