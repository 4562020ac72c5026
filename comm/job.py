"""What a job is made of: exchanges of messages, in an order, with computation in between."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from comm.communicator import Communicator, Message


@dataclass(frozen=True)
class Round:
    """One step of a job: messages that go together, and what to do when they have completed.

    A job's exchanges are posted, and complete, in the order in which it yields them.
    """

    communicator: Communicator
    sends: Sequence[Message] = ()
    receives: Sequence[Message] = ()
    then: Callable[[], object] | None = None
    """Called when all messages have completed, after the `then` of the exchanges before."""
    max_pending: int = 0
    """How many of the job's exchanges before this one may still be on their way when it is posted."""

    bytes_read: int = 0
    """What `then` reads in the memory of another rank."""

    @cached_property
    def wire_bytes(self) -> int:
        """What goes out or what comes in as messages, whichever is more."""
        return max(sum(m.array.nbytes for m in side) for side in (self.sends, self.receives))

    @property
    def bytes(self) -> int:
        """What goes out or what comes in, in whatever way."""
        return self.wire_bytes + self.bytes_read

    @property
    def partner(self) -> int:
        """The rank that a message comes from, or goes to where none comes."""
        return next(m.peer for m in (*self.receives, *self.sends))


Job = Iterator[Round | None]
"""A job: a generator that yields its exchanges one by one, and None where other jobs may come in between.

What it computes itself runs when it is asked for its next exchange, which is as soon as possible, not when
the exchanges before have completed: what needs those belongs into `then`.
"""
