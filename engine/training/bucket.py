"""Flat parameters of one or several nodes, reduced, updated and broadcast together."""

from collections.abc import Callable, Sequence
from functools import partial

from comm.collectives import Collectives, Peers
from comm.comm_thread import CommandQueue, Request
from comm.job import Job
from engine.host.aligned_arrays import aligned_zeros
from engine.training.microbatches import Slot
from layers.layer import Array

BEFORE_PARAMETERS = -1
"""Priority of the small messages of loss and state; a bucket's priority is the index of its first node."""

Update = Callable[[Array, Array, Array, float], None]
"""``update(weights, gradients, velocity, rate_factor)`` of a piece of a strip."""

_UPDATED_FLOATS = 1 << 18  # at a time, 1 MB; then the thread attends to messages of other jobs


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
    rate_factor
        What the learning rate of all members is multiplied by.
    slots
        Of `gradients`, the first, and of those that microbatches need beside it.
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
        rate_factor: float = 1.0,
        slots: Sequence[Slot] = ((0, 0),),
    ):
        self.name, self._members, self._priority = name, members, priority
        self._rate_factor = rate_factor
        self._collectives, self._queue = collectives, queue
        padded = collectives.tree.padded(floats)
        self.weights, self._weights_of = self._allocate(padded)
        self.gradients, self._gradients_of = self._allocate(padded)
        self.partials = {slots[0]: self.gradients}
        self.partials |= {slot: aligned_zeros((padded,)) for slot in slots[1:]}
        self._strips = collectives.tree.strips_of(collectives.communicator.rank, padded)
        self.velocities = tuple(aligned_zeros((strip.stop - strip.start,)) for strip in self._strips)
        self._reduced = self._updated = 0  # members that have called so far
        self._pending: Request | None = None

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
        """Start updating and broadcasting the owned strips, once no member still reads its weights."""
        self._updated = (self._updated + 1) % self._members
        if self._updated == 0:
            job = self._collectives.part_broadcast(
                self.weights, self._weights_of, partial(self._update, update), until_read=False
            )
            self._pending = self._submit("update", job, after=self._pending)

    def _update(self, update: Update, part: slice) -> Job:
        """Update a part of an owned strip."""
        strips = zip(self._strips, self.velocities, strict=True)
        first, velocity = next((s.start, v) for s, v in strips if s.start <= part.start < s.stop)
        for start in range(part.start, part.stop, _UPDATED_FLOATS):
            piece = slice(start, min(start + _UPDATED_FLOATS, part.stop))
            own = velocity[piece.start - first : piece.stop - first]
            update(self.weights[piece], self.gradients[piece], own, self._rate_factor)
            yield None

    def wait(self) -> None:
        """Wait until the weights are those of the last submitted step."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None

    def arrays(self) -> list[Array]:
        """Return the gradients and velocities on this rank."""
        return [*self.partials.values(), *self.velocities]

    @property
    def bytes(self) -> int:
        """Bytes of the weights, gradients and velocities on this rank."""
        return sum(array.nbytes for array in (self.weights, *self.arrays()))

    def gather_velocities(self) -> Array:
        """Return the velocities of all ranks, flat like the weights (collective)."""
        flat = aligned_zeros((self.weights.size,))
        for strip, velocity in zip(self._strips, self.velocities, strict=True):
            flat[strip] = velocity
        self._submit("gather velocities of", self._collectives.part_broadcast(flat)).wait()
        return flat

    def restore_velocities(self, start: int, values: Array) -> None:
        """Overwrite the velocities from an offset on, where they lie in the owned strips."""
        for strip, velocity in zip(self._strips, self.velocities, strict=True):
            low, high = max(start, strip.start), min(start + values.size, strip.stop)
            if low < high:
                velocity[low - strip.start : high - strip.start] = values[low - start : high - start]

    def _submit(self, verb: str, job: Job, after: Request | None = None) -> Request:
        return self._queue.submit(job, name=f"{verb} {self.name}", priority=self._priority, after=after)
