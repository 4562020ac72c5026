"""The norm of all gradients, to clip or skip by: every update waits until all gradients are reduced."""

import math
from collections.abc import Callable

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import AllOf, CommandQueue, Request
from comm.job import Job
from layers.kernels.sum_of_squares import LIMBS, Limbs, rounded_sum

_FIRST = -2  # before all else: every update waits for it
_LAST = 1 << 30  # only while no message can go on its way


class GradientNorm:
    """The norm of the gradients of all buckets, the same bits on any ranks, strips and plans.

    The sum of squares is exact, so there is no order in which it is added; it is rounded once. Reduces
    overlap with the backward pass as ever, updates do not: none may begin before all gradients are known.

    Parameters
    ----------
    limit
        Gradients are multiplied by limit / norm where the norm is longer; 0: they are not.
    buckets
        That take part; each calls `submit` once a step.
    skips
        Whether updates change nothing in a step whose gradients are not finite.
    """

    def __init__(
        self, limit: float, buckets: int, world: Collectives, queue: CommandQueue, *, skips: bool = False
    ):
        self._limit, self._buckets, self.skips = limit, buckets, skips
        self._world, self._queue = world, queue
        self._sums = np.zeros((world.communicator.size, LIMBS), np.int64)
        self._own = np.zeros(LIMBS, np.int64)
        self._waiting: list[Callable[[Request], None]] = []
        self._measured: list[Request] = []
        self._gathered: Request | None = None
        self._norm: float | None = None

    def submit(
        self,
        measure: Callable[[Limbs], Job],
        start_update: Callable[[Request], None],
        *,
        after: Request | None,
    ) -> None:
        """Add the squares of one bucket; with the last one start the updates of all, after the norm is known.

        Parameters
        ----------
        measure
            Makes a job that adds the squares of the own strips to a sum.
        start_update
            Submits the bucket's update, to begin after a request.
        after
            The bucket's reduce.
        """
        self._waiting.append(start_update)
        self._measured.append(
            self._queue.submit(measure(self._own), name="measure gradients", priority=_LAST, after=after)
        )
        if len(self._waiting) < self._buckets:
            return
        gather = self._world.all_gather(self._sums)
        self._gathered = self._queue.submit(
            self._total(gather), name="norm of gradients", priority=_FIRST, after=AllOf(self._measured)
        )
        waiting, self._waiting, self._measured = self._waiting, [], []
        for start in waiting:
            start(self._gathered)

    def _total(self, gather: Job) -> Job:
        self._norm = None
        self._sums[self._world.communicator.rank] = self._own
        self._own[...] = 0
        yield from gather

    @property
    def norm(self) -> float:
        """The norm of the gradients of the last step, before they are clipped; its job has ended."""
        if self._norm is None:
            self._norm = math.sqrt(rounded_sum(self._sums.sum(axis=0)))
        return self._norm

    @property
    def factor(self) -> float:
        """What the gradients of this step are multiplied by."""
        return min(1.0, self._limit / self.norm) if self._limit > 0 and self.norm > 0 else 1.0

    @property
    def is_skipped(self) -> bool:
        """Whether this step's updates change nothing."""
        return self.skips and not math.isfinite(self.norm)

    def wait(self) -> float:
        """Wait for the norm of the last submitted step, and return it."""
        assert self._gathered is not None
        self._gathered.wait()
        return self.norm
