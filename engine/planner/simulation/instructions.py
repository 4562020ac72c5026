"""Events that a simulated rank takes, and instructions that it returns to the simulator."""

from dataclasses import dataclass
from enum import Enum


class Event(Enum):
    """What happens to one of a rank's two threads."""

    GO_ON = "the main thread runs its next operations"
    COMPUTED = "the main thread has finished a pass"
    POLL = "the communication thread looks for jobs and messages"
    PAID = "the communication thread has finished the computation of its jobs"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Deliver an event to this rank at a time."""

    moment: float
    event: Event


@dataclass(frozen=True, slots=True)
class Occupy:
    """Occupy cores of the rank's machine, and deliver an event when the work is done.

    The work takes `seconds` if each of its `threads` has a core of its own, and longer if there are fewer.
    """

    seconds: float
    threads: float
    event: Event


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell a rank, this one or another, when the last byte of a message arrives."""

    rank: int
    """In the world, not in a group."""
    moment: float


Instruction = Schedule | Occupy | Announce
