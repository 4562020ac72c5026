"""Samples read on threads into batches, ahead of the network that they are for."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from engine.config.wording import printable
from engine.data.dataset import DataError
from engine.host.unpinned import run_anywhere
from engine.trained.samples import Sample
from layers.layer import Array

AHEAD = 2
"""Batches that are being read while one is computed."""
_PIECE = 8  # samples that a thread reads at once: a batch is several pieces

Errors = dict[int, str]
"""By place in the batch."""


@dataclass(frozen=True, eq=False)
class Filled:
    """A batch of samples that have been read."""

    samples: Sequence[Sample]
    x: Array
    """float32 [batch, *shape]; behind the samples, and where one cannot be read, anything that is finite."""
    errors: Errors


def filled(
    samples: Sequence[Sample], shape: tuple[int, ...], *, batch: int, threads: int
) -> Iterator[Filled]:
    """Yield all samples in batches, in order; each is valid until the next one is asked for.

    Decoders of images and numpy let other threads run, so reading goes on beside the kernels.
    """
    free = [np.zeros((batch, *shape), np.float32) for _ in range(AHEAD + 1)]
    waiting: deque[tuple[Sequence[Sample], Array, list[Future[Errors]]]] = deque()
    starts = iter(range(0, len(samples), batch))
    pool = ThreadPoolExecutor(threads, "read", initializer=run_anywhere)

    def read_next() -> None:
        start = next(starts, None)
        if start is not None:
            own, x = samples[start : start + batch], free.pop()
            places = range(0, len(own), _PIECE)
            waiting.append((own, x, [pool.submit(_read, own, x, place) for place in places]))

    try:
        for _ in range(AHEAD):
            read_next()
        while waiting:
            own, x, pieces = waiting.popleft()
            errors = {place: error for piece in pieces for place, error in piece.result().items()}
            read_next()
            yield Filled(own, x, errors)
            free.append(x)
    finally:
        pool.shutdown(cancel_futures=True)


def _read(samples: Sequence[Sample], x: Array, first: int) -> Errors:
    errors: Errors = {}
    for place in range(first, min(first + _PIECE, len(samples))):
        try:
            samples[place].read(x[place])
        except DataError as error:
            errors[place] = str(error)
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            errors[place] = f"{printable(samples[place].name)}: {type(error).__name__}: {error}"
        if place in errors:
            x[place] = 0
    return errors
