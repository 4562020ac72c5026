"""Flat parameters of one or several nodes, reduced, updated and broadcast together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from comm.collectives import Collectives, Peers
from comm.comm_thread import AllOf, CommandQueue, Request
from comm.job import Job
from engine.host.aligned_arrays import aligned_zeros
from engine.training.gradient_norm import GradientNorm
from engine.training.held import Copy
from engine.training.microbatches import Slot
from engine.training.tensor_norms import TensorNorms
from engine.training.update import Piece, Update, UpdateForm
from layers.kernels.sum_of_squares import Limbs
from layers.layer import Array

BEFORE_PARAMETERS = -1
"""Priority of the small messages of loss and state; a bucket's priority is the index of its first node."""

WEIGHTS = "weights"
"""Name of the weights among what a rank alone has."""

AVERAGE = "average"
"""Name of the averages of weights among what a bucket keeps."""

USUAL_FORM = UpdateForm()

_UPDATED_FLOATS = 1 << 18  # at a time, 1 MB; then the thread attends to messages of other jobs


@dataclass(frozen=True)
class Stretch:
    """Weights side by side in a bucket that the update treats alike; the last one ends with the bucket."""

    start: int
    rate: float = 1.0
    """What the learning rate is multiplied by."""
    decay: float = 1.0
    """What the weight decay is multiplied by."""


class Bucket:
    """Weights and gradients, each flat in one buffer; this rank owns and updates its strips.

    Each member calls `submit_reduce` and `submit_update`, and the last call starts the job: once all
    gradients are written, or once no member still reads its weights. So a small node costs no message of its
    own. The buffers are padded so that all strips are equal.

    Neither job waits until the other ranks have read this rank's memory, as the other job tells it: both
    exchange messages with the same ranks, and one begins where the other has ended. So who hears of a rank's
    update knows that it has read the gradients, and may write new ones after its own; and who hears of a
    rank's next gradients knows that it has read the weights of the last update.

    Parameters
    ----------
    priority
        Priority of its jobs: the index of the first node, for which the next forward pass waits first.
    stretches
        In their order; one for each tensor where the update needs norms of tensors.
    slots
        Of `gradients`, the first, and of those that microbatches need beside it.
    form
        Of the update.
    tensor_norms
        Gathers the norms of tensors; None where the update needs none.
    gradient_norm
        Holds the updates of all buckets back until the norm of all gradients is known; None: need not.
    parts
        Of the nodes, each on a rank of its own; 1 where they are whole on every rank.
    """

    def __init__(
        self,
        name: str,
        floats: int,
        members: int,
        *,
        priority: int,
        collectives: Collectives,
        queue: CommandQueue,
        stretches: Sequence[Stretch] = (Stretch(0),),
        slots: Sequence[Slot] = ((0, 0),),
        form: UpdateForm = USUAL_FORM,
        tensor_norms: TensorNorms | None = None,
        gradient_norm: GradientNorm | None = None,
        parts: int = 1,
    ):
        self.name, self._members, self._priority, self.parts = name, members, priority, parts
        self._stretches, self._tensor_norms, self._gradient_norm = stretches, tensor_norms, gradient_norm
        self._collectives, self._queue = collectives, queue
        padded = collectives.tree.padded(floats)
        self.weights, self._weights_of = self._allocate(padded)
        self.gradients, self._gradients_of = self._allocate(padded)
        self.partials = {slots[0]: self.gradients}
        self.partials |= {slot: aligned_zeros((padded,)) for slot in slots[1:]}
        self._strips = collectives.tree.strips_of(collectives.communicator.rank, padded)
        kept = (*form.moments, AVERAGE) if form.averages else form.moments
        self.kept = {
            name: tuple(aligned_zeros((strip.stop - strip.start,)) for strip in self._strips) for name in kept
        }
        """What is kept of the own strips beside their weights, by name: moments, averages."""
        self._moments = tuple(zip(*(self.kept[name] for name in form.moments), strict=True))
        self._reduced = self._updated = 0  # members that have called so far
        self._pending: Request | None = None
        self._held_by: Request | None = None

    def _allocate(self, floats: int) -> tuple[Array, Peers]:
        """Return zeros for this rank, and the same buffer of each rank whose memory this one can read."""
        window = self._collectives.share(floats)
        return (aligned_zeros((floats,)), {}) if window is None else (window.own, window.peers)

    def submit_reduce(self) -> None:
        """Start summing the gradients over the ranks into the owned strips, once all members have called."""
        self._reduced = (self._reduced + 1) % self._members
        if self._reduced == 0:
            self._pending = self._submit(
                "reduce",
                self._collectives.part_reduce(self.gradients, self._gradients_of, until_read=False),
            )

    def submit_update(self, update: Update) -> None:
        """Start updating and broadcasting the owned strips, once no member still reads its weights.

        Where the update needs the norm of all gradients, the bucket that is the last one to be called starts
        it for all.
        """
        self._updated = (self._updated + 1) % self._members
        if self._updated:
            return
        if self._gradient_norm is None:
            self._start_update(update, self._pending)
        else:
            self._gradient_norm.submit(
                partial(self._squares, update), partial(self._start_update, update), after=self._pending
            )

    def _start_update(self, update: Update, after: Request | None) -> None:
        if self._held_by is not None and not self._held_by.has_ended():
            after = self._held_by if after is None else AllOf((after, self._held_by))
        if self._tensor_norms is not None:
            after = self._tensor_norms.submit(
                partial(self._direct, update),
                name=f"norms of {self.name}",
                priority=self._priority,
                after=after,
            )
        job = self._collectives.part_broadcast(
            self.weights, self._weights_of, partial(self._update, update), until_read=False
        )
        self._pending = self._submit("update", job, after=after)

    def _squares(self, update: Update, limbs: Limbs) -> Job:
        """Add the squares of the own strips' gradients, once these are reduced."""
        for strip in self._strips:
            for piece in cut(strip):
                update.add_squares(self.gradients[piece], limbs)
                yield None

    def _direct(self, update: Update, sums: Limbs) -> Job:
        """Prepare a step whose length depends on norms: those of weights and direction, by tensor."""
        if self._is_skipped:
            return
        for strip in self._strips:
            for piece, index in self._pieces(strip):
                self._scale(piece)
                update.direct(self._piece(piece, index))
                update.add_squares(self.weights[piece], sums[index, 0])
                update.add_squares(self.gradients[piece], sums[index, 1])
                yield None

    def _update(self, update: Update, part: slice) -> Job:
        """Update a part of an owned strip."""
        if self._is_skipped:
            return
        norms = None if self._tensor_norms is None else self._tensor_norms.norms()
        for piece, index in self._pieces(part):
            trust = 1.0
            if norms is None:
                self._scale(piece)
            else:
                trust = update.trust(*norms[index], self._stretches[index].decay)
            update.apply(self._piece(piece, index, trust))
            yield None

    @property
    def _is_skipped(self) -> bool:
        return self._gradient_norm is not None and self._gradient_norm.is_skipped

    def _scale(self, piece: slice) -> None:
        """Clip gradients where the norm of all is too long."""
        factor = 1.0 if self._gradient_norm is None else self._gradient_norm.factor
        if factor != 1:
            gradients = self.gradients[piece]
            np.multiply(gradients, np.float32(factor), out=gradients)

    def _piece(self, piece: slice, index: int, trust: float = 1.0) -> Piece:
        number = next(i for i, strip in enumerate(self._strips) if strip.start <= piece.start < strip.stop)
        first, stretch = self._strips[number].start, self._stretches[index]
        own = slice(piece.start - first, piece.stop - first)
        return Piece(
            self.weights[piece],
            self.gradients[piece],
            tuple(array[own] for array in self._moments[number]),
            self.kept[AVERAGE][number][own] if AVERAGE in self.kept else None,
            stretch.rate,
            stretch.decay,
            trust,
        )

    def _pieces(self, part: slice) -> Iterator[tuple[slice, int]]:
        """Yield pieces of a part of an own strip, each with the index of the stretch that it lies in."""
        ends = [*(stretch.start for stretch in self._stretches[1:]), self.weights.size]
        for index, (stretch, end) in enumerate(zip(self._stretches, ends, strict=True)):
            for piece in cut(slice(max(part.start, stretch.start), min(part.stop, end))):
                yield piece, index

    def wait(self) -> None:
        """Wait until the weights are those of the last submitted step."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    @property
    def pending(self) -> Request | None:
        """The job that nobody has waited for yet, if there is one."""
        return self._pending

    def hold_updates(self, until: Request) -> None:
        """Let what overwrites the own strips begin only when a job has ended that reads them."""
        self._held_by = until

    def shares(self, rank: int) -> list[tuple[str, slice]]:
        """Return what a rank alone has, in order: of the weights and of all that is kept, its strips."""
        strips = self._collectives.tree.strips_of(rank // self.parts, self.weights.size)
        return [(name, strip) for name in (WEIGHTS, *self.kept) for strip in strips]

    def own_share(self, index: int, name: str, strip: slice) -> Array:
        """Return the array of one of this rank's shares."""
        return self.weights[strip] if name == WEIGHTS else self.kept[name][index % len(self._strips)]

    def arrays(self) -> list[Array]:
        """Return the gradients, and what is kept of the own strips, on this rank."""
        return [*self.partials.values(), *(array for arrays in self.kept.values() for array in arrays)]

    @property
    def bytes(self) -> int:
        """Bytes of the weights, gradients, moments and averages on this rank."""
        return sum(array.nbytes for array in (self.weights, *self.arrays()))

    def gather_kept(self, name: str, copy: Copy) -> Array:
        """Return a copy of the moments or averages of all ranks, flat like the weights (collective)."""
        flat = copy.room(f"{name} of {self.name}", (self.weights.size,))
        for strip, own in zip(self._strips, self.kept[name], strict=True):
            flat[strip] = own
        self._submit(f"gather {name} of", self._collectives.part_broadcast(flat)).wait()
        return flat

    def restore_kept(self, name: str, start: int, values: Array) -> None:
        """Overwrite moments or averages from an offset on, where they lie in the owned strips."""
        for strip, own in zip(self._strips, self.kept[name], strict=True):
            low, high = max(start, strip.start), min(start + values.size, strip.stop)
            if low < high:
                own[low - strip.start : high - strip.start] = values[low - start : high - start]

    def start_averages(self) -> None:
        """Let the averages, if there are any, be the weights as they are."""
        for strip, own in zip(self._strips, self.kept.get(AVERAGE, ()), strict=False):
            own[...] = self.weights[strip]

    def swap_averages(self) -> None:
        """Let weights and averages change places, on all ranks (collective).

        All ranks have to be done with the weights: the first message waits until they are.
        """
        self.wait()
        if self._held_by is not None:
            self._held_by.wait()
        world = self._collectives
        self._submit("await", world.all_gather(np.zeros(world.communicator.size, np.int8))).wait()
        for strip, own in zip(self._strips, self.kept[AVERAGE], strict=True):
            weights = self.weights[strip].copy()
            self.weights[strip] = own
            own[...] = weights
        self._submit("spread", self._collectives.part_broadcast(self.weights, self._weights_of)).wait()

    def _submit(self, verb: str, job: Job, after: Request | None = None) -> Request:
        return self._queue.submit(job, name=f"{verb} {self.name}", priority=self._priority, after=after)


def cut(run: slice) -> Iterator[slice]:
    """Yield pieces of a run that stay in cache."""
    for start in range(run.start, run.stop, _UPDATED_FLOATS):
        yield slice(start, min(start + _UPDATED_FLOATS, run.stop))
