"""The start of the ranks of a command that computes on all of them."""

from functools import partial
from typing import TYPE_CHECKING

from comm import failure
from engine.config.command_line import start_ranks
from engine.host.stop_signals import end_others_by

if TYPE_CHECKING:
    from comm.communicator import Communicator


def start_together() -> "Communicator | None":
    """Start the ranks as `start_ranks` does, and let each end all where it is told to end at once."""
    world = start_ranks()
    if world is not None and world.size > 1:
        end_others_by(partial(world.abort, failure.INTERRUPTED))
    return world
