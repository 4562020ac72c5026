"""Changes of how the M ranks of a model group hold an activation: layers whose backward is their adjoint.

The gradient of a WHOLE value is a partial sum on each rank, over the output features that the rank has of the
layer which read the value. The sums of the ranks are added nearest first: those are the upper levels of the
tree over that layer's feature leaves.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, Request
from comm.steps import Steps
from comm.tree import STRIP_FLOATS
from layers.kernels.simd import LANES
from layers.layer import Array, Buffers, Context, Finish, Layer, Scratch, Shape
from layers.layout import blocks

URGENT = -2
"""Priority: before the loss and all parameters, as the main thread waits for an exchange."""

_OUT, _IN = "out", "in"


@dataclass(frozen=True)
class Exchange(Layer):
    """What all changes have in common. Each rank sends, and gets, one piece for each rank of its group.

    Parameters
    ----------
    name
        Of the job.
    features
        Of the whole value.
    width
        Features of each part but the last, which has what is left.
    group, queue
        The ranks that exchange, and who runs their jobs.
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

    @abstractmethod
    def piece(self, samples: int) -> Shape:
        """Return the samples and floats of a piece, given the samples of y."""

    @final
    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return room for the pieces, each in whole cache lines."""
        rows, floats = self.piece(samples)
        pieces = Scratch((self.parts, -(-rows * floats // STRIP_FLOATS) * STRIP_FLOATS))
        return {_OUT: pieces, _IN: pieces}

    @abstractmethod
    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start the job that brings dx."""

    @final
    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self.begin_backward_data(at, run)()

    @final
    def submit(self, job: Steps) -> Request:
        """Start a job of the group."""
        return self.queue.submit(job, name=self.name, priority=URGENT)

    @final
    def columns(self, whole: Array) -> list[Array]:
        """Return each part's features of a value with all features."""
        return [whole[:, part * self.width : (part + 1) * self.width] for part in range(self.parts)]

    @final
    def rows(self, group: Array) -> list[Array]:
        """Return each rank's samples of a value with all samples of the group."""
        return np.split(group, self.parts)

    @final
    def reduce(self, at: Buffers, partials: list[Array], total: Array) -> Finish:
        """Begin to sum one partial value for each rank over the group; this rank keeps its own.

        A strip of the tree belongs to each rank; they do not lie in the order of the ranks.
        """
        pieces: Array = at.scratch[_OUT].view(np.float32)
        tree = self.group.tree
        strips = [tree.strip(part, pieces.size).start // pieces.shape[1] for part in range(self.parts)]
        _fill([pieces[strip] for strip in strips], partials)
        request = self.submit(self.group.part_reduce(pieces.reshape(-1)))

        def finish() -> None:
            request.wait()
            _take([pieces[strips[self.part]]], [total])

        return finish

    @final
    def swap(self, at: Buffers, outgoing: list[Array], incoming: list[Array]) -> Finish:
        """Begin to send a value to each rank, and to get one from each."""
        _fill(at.scratch[_OUT], outgoing)
        request = self.submit(self.group.all_to_all(at.scratch[_OUT], at.scratch[_IN]))

        def finish() -> None:
            request.wait()
            _take(at.scratch[_IN], incoming)

        return finish


@final
class GatherSamples(Exchange):
    """From BATCH to WHOLE: all samples of the group; backward sums over its ranks, for the own samples."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        return inputs[0]

    def piece(self, samples: int) -> Shape:
        """Return the samples of one rank, whole."""
        return samples // self.parts, blocks(self.features) * LANES

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,) = at.x, at.y
        rows = y.reshape(self.parts, *x.shape)
        rows[self.part] = x
        self.submit(self.group.all_gather_leaves(rows)).wait()

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start the sum over ranks, for the own samples."""
        (dy,), (dx,) = at.dy, at.dx
        return self.reduce(at, self.rows(dy), dx)


@final
class GatherFeatures(Exchange):
    """From FEATURE to WHOLE: all features; backward sums over its ranks, for the own features."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the whole value."""
        return (self.features,)

    def piece(self, samples: int) -> Shape:
        """Return one part of all samples."""
        return samples, self.width

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,), pieces = at.x, at.y, at.scratch[_OUT]
        _fill([pieces[self.part]], [x])
        self.submit(self.group.all_gather_leaves(pieces)).wait()
        _take(pieces, self.columns(y))

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start the sum over ranks, for the own features."""
        (dy,), (dx,) = at.dy, at.dx
        return self.reduce(at, self.columns(dy), dx)


@final
class SwapFeatures(Exchange):
    """From FEATURE to BATCH: all features of the own samples; backward is the way back."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the whole value."""
        return (self.features,)

    def piece(self, samples: int) -> Shape:
        """Return one part of one rank's samples."""
        return samples, self.width

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,) = at.x, at.y
        self.swap(at, self.rows(x), self.columns(y))()

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        """Start the way back."""
        (dy,), (dx,) = at.dy, at.dx
        return self.swap(at, self.columns(dy), self.rows(dx))


Pieces = Iterable[NDArray[np.generic]]


def _fill(pieces: Pieces, values: list[Array]) -> None:
    """Copy values [samples, features] into pieces; behind a shorter one come zeros."""
    for piece, value in zip(pieces, values, strict=True):
        piece[: value.size] = value.reshape(-1)
        piece[value.size :] = 0


def _take(pieces: Pieces, values: list[Array]) -> None:
    """Copy pieces back into values."""
    for piece, value in zip(pieces, values, strict=True):
        value[...] = piece[: value.size].reshape(value.shape)
