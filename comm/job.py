"""Jobs: what the communication thread runs, as rounds of messages with computation in between."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from comm.communicator import Communicator, Message


@dataclass(frozen=True)
class Round:
    """Messages of one job that are posted together, and what to do when they have completed.

    A job's rounds are posted, and complete, in the order in which it yields them.
    """

    communicator: Communicator
    sends: Sequence[Message] = ()
    receives: Sequence[Message] = ()
    then: Callable[[], object] | None = None
    """Called once all messages have completed, after the `then` of earlier rounds."""
    max_pending: int = 0
    """How many earlier rounds of the job may still be in flight when this one is posted."""

    bytes_read: int = 0
    """Bytes that `then` reads in another rank's memory."""

    @property
    def wire_bytes(self) -> int:
        """Bytes sent or bytes received as messages, whichever is more."""
        sent = received = 0
        for message in self.sends:
            sent += message.array.nbytes
        for message in self.receives:
            received += message.array.nbytes
        return max(sent, received)

    @property
    def bytes(self) -> int:
        """Bytes moved in one direction, as messages or through shared memory."""
        return self.wire_bytes + self.bytes_read

    @property
    def partner(self) -> int:
        """The rank that a message comes from or, where none is received, goes to."""
        return next(m.peer for m in (*self.receives, *self.sends))


Job = Iterator[Round | None]
"""A generator of rounds; it yields None where other jobs may get a turn during long computation.

The generator is advanced as early as possible, not when the rounds before have completed: computation that
needs their messages belongs in `Round.then`.
"""
