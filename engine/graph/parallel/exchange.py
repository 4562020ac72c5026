"""Exchanges: layers that reshard an activation over the M ranks of a model group; backward is the adjoint.

The gradient of a WHOLE value is a partial sum on each rank, over the output features that the rank has of the
layer which read the value. The sums of the ranks are added nearest first: those are the upper levels of the
tree over that layer's feature leaves.

A vector is treated as an image of one pixel: its features are channels, and a part of them is whole blocks.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, final, runtime_checkable

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, Request
from comm.job import Job
from comm.tree import STRIP_FLOATS, ceil_div
from layers.kernels import add
from layers.kernels.rows import as_channels
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Context, Layer, Scratch, Shape
from layers.layout import blocks

Finish = Callable[[], None]
"""Waits for the messages of an exchange and completes its result; until then its scratch is in use."""

URGENT = -2
"""Priority: before the loss and all parameters, as the main thread waits for an exchange."""

_OUT, _IN = "out", "in"


@runtime_checkable
class StartsBackward(Protocol):
    """The interface of an exchange, wrapped or not, whose backward messages can overlap with compute."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the exchanged value."""

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the working memory of the pieces."""

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start dx asynchronously; return a function that completes it. dy may be reused at once."""


@dataclass(frozen=True)
class Exchange(Layer):
    """Reshard a value over a group: each rank sends one piece to every rank, and receives one from each.

    Parameters
    ----------
    name
        Name of the jobs.
    features
        Features of the whole value.
    width
        Features of each part but the last, which has the rest; whole blocks.
    group, queue
        Collectives of the group, and the queue that runs them.
    """

    name: str
    features: int
    width: int
    group: Collectives = field(repr=False, compare=False)
    queue: CommandQueue = field(repr=False, compare=False)

    @property
    def parts(self) -> int:
        """M, the ranks of the group."""
        return self.group.communicator.size

    @property
    def part(self) -> int:
        """Place of this rank in the group."""
        return self.group.communicator.rank

    @final
    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the whole value."""
        return (self.features, *inputs[0][1:])

    @abstractmethod
    def piece(self, samples: int) -> Shape:
        """Return the samples and features of a piece, given the samples of y."""

    @final
    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return room for the pieces, each in whole cache lines."""
        rows, features = self.piece(samples)
        floats = rows * blocks(features) * LANES * math.prod(inputs[0][1:])
        pieces = Scratch((self.parts, ceil_div(floats, STRIP_FLOATS) * STRIP_FLOATS))
        return {_OUT: pieces, _IN: pieces}

    @final
    def cost_key(self) -> str:
        """Return the layer's key with the number of pieces, on which the cost of the copies depends."""
        return f"{Layer.cost_key(self)} x{self.parts}"

    @abstractmethod
    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start dx asynchronously; return a function that completes it. dy may be reused at once."""

    @final
    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self.begin_backward_data(at, run)()

    @final
    def submit(self, job: Job) -> Request:
        """Submit a job of the group, to run before all others."""
        return self.queue.submit(job, name=self.name, priority=URGENT)

    @final
    def columns(self, whole: Array) -> list[Array]:
        """Return each part's features of a value with all features."""
        image, width = as_channels(whole), self.width // LANES
        return [image[:, part * width : (part + 1) * width] for part in range(self.parts)]

    @final
    def rows(self, group: Array) -> list[Array]:
        """Return each rank's samples of a value with all samples of the group."""
        return np.split(as_channels(group), self.parts)

    @final
    def gather(self, at: Buffers, run: Context, own: Array, parts: list[Array]) -> None:
        """All-gather the ranks' values over the group into `parts`."""
        pieces = at.scratch[_OUT]
        _fill(run.threads, [pieces[self.part]], [own])
        self.submit(self.group.all_gather_leaves(pieces)).wait()
        _take(run.threads, pieces, parts)

    @final
    def reduce(self, at: Buffers, run: Context, partials: list[Array], total: Array) -> Finish:
        """Start a part-reduce of one partial value for each rank; `total` gets the sum for this rank.

        The strips of the tree do not lie in the order of the ranks that own them.
        """
        pieces: Array = at.scratch[_OUT].view(np.float32)
        tree = self.group.tree
        strips = [tree.strip(part, pieces.size).start // pieces.shape[1] for part in range(self.parts)]
        _fill(run.threads, [pieces[strip] for strip in strips], partials)
        request = self.submit(self.group.part_reduce(pieces.reshape(-1)))

        def finish() -> None:
            request.wait()
            _take(run.threads, [pieces[strips[self.part]]], [total])

        return finish

    @final
    def swap(self, at: Buffers, run: Context, outgoing: list[Array], incoming: list[Array]) -> Finish:
        """Start an all-to-all: send a value to each rank, and receive one from each."""
        _fill(run.threads, at.scratch[_OUT], outgoing)
        request = self.submit(self.group.all_to_all(at.scratch[_OUT], at.scratch[_IN]))

        def finish() -> None:
            request.wait()
            _take(run.threads, at.scratch[_IN], incoming)

        return finish


@final
class GatherSamples(Exchange):
    """From BATCH to WHOLE: all samples of the group; backward sums over its ranks, for the own samples."""

    def piece(self, samples: int) -> Shape:
        """Return one rank's samples, with all features."""
        return samples // self.parts, self.features

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,) = at.x, at.y
        if y.flags.c_contiguous:  # the pieces lie in y as they travel: a vector, or an image without a halo
            rows = y.reshape(self.parts, *x.shape)
            rows[self.part] = x
            self.submit(self.group.all_gather_leaves(rows)).wait()
        else:
            self.gather(at, run, x, self.rows(y))

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start the sum over ranks, for the own samples."""
        (dy,), (dx,) = at.dy, at.dx
        return self.reduce(at, run, self.rows(dy), dx)


@final
class GatherFeatures(Exchange):
    """From FEATURE to WHOLE: all features; backward sums over its ranks, for the own features."""

    def piece(self, samples: int) -> Shape:
        """Return one part of all samples."""
        return samples, self.width

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,) = at.x, at.y
        self.gather(at, run, x, self.columns(y))

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start the sum over ranks, for the own features."""
        (dy,), (dx,) = at.dy, at.dx
        return self.reduce(at, run, self.columns(dy), dx)


@final
class SwapFeatures(Exchange):
    """From FEATURE to BATCH: all features of the own samples; backward is the reverse all-to-all."""

    def piece(self, samples: int) -> Shape:
        """Return one part of one rank's samples."""
        return samples, self.width

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,) = at.x, at.y
        self.swap(at, run, self.rows(x), self.columns(y))()

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start the reverse all-to-all."""
        (dy,), (dx,) = at.dy, at.dx
        return self.swap(at, run, self.columns(dy), self.rows(dx))


def _fill(threads: Threads, pieces: Any, values: list[Array]) -> None:
    """Copy values, images or vectors, into contiguous pieces; pad shorter ones with zeros."""
    for piece, value in zip(pieces, values, strict=True):
        image = as_channels(value)
        add.add_all(threads, (image,), piece[: value.size].reshape(image.shape))
        piece[value.size :] = 0


def _take(threads: Threads, pieces: Any, values: list[Array]) -> None:
    """Copy pieces back into values."""
    for piece, value in zip(pieces, values, strict=True):
        image = as_channels(value)
        add.add_all(threads, (piece[: value.size].reshape(image.shape),), image)
