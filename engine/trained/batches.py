"""Samples read on threads into batches, ahead of the network that they are for."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np

from comm.tree import ceil_div
from engine.config.wording import printable
from engine.data.dataset import DataError
from engine.host.on_threads import on_threads
from engine.trained.samples import Sample
from layers.layer import Array

AHEAD = 2
"""Batches that are being read while one is computed."""
_LEAST, _MOST = 8, 32  # samples that a thread reads at once: a batch is several pieces
_FLOATS = (
    1 << 17
)  # of a piece of more than the least, as handing it over takes as long as reading small samples

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
    buffers = [np.zeros((batch, *shape), np.float32) for _ in range(AHEAD + 1)]
    piece = min(_MOST, max(_LEAST, _FLOATS // math.prod(shape)))
    pieces_of = ceil_div(batch, piece)
    starts = range(0, len(samples), batch)
    with closing(
        on_threads(_read, _pieces(samples, buffers, batch, piece), threads, ahead=AHEAD * pieces_of)
    ) as read:
        for number, start in enumerate(starts):
            own = samples[start : start + batch]
            errors: Errors = {}
            for found in islice(read, ceil_div(len(own), piece)):
                errors |= found
            yield Filled(own, buffers[number % len(buffers)], errors)


def _pieces(
    samples: Sequence[Sample], buffers: Sequence[Array], batch: int, piece: int
) -> Iterator[tuple[Sequence[Sample], Array, int]]:
    """Yield some samples, the buffer of their batch, and the place of the first in it."""
    for number, start in enumerate(range(0, len(samples), batch)):
        own = samples[start : start + batch]
        for first in range(0, len(own), piece):
            yield own[first : first + piece], buffers[number % len(buffers)], first


def _read(piece: tuple[Sequence[Sample], Array, int]) -> Errors:
    samples, x, first = piece
    errors: Errors = {}
    for place, sample in enumerate(samples, start=first):
        try:
            sample.read(x[place])
        except DataError as error:
            errors[place] = str(error)
        except Exception as error:  # a damaged file makes decoders raise nearly anything
            errors[place] = f"{printable(sample.name)}: {type(error).__name__}: {error}"
        if place in errors:
            x[place] = 0
    return errors
