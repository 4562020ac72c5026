"""What commands have in common: how they refuse options, and how their ranks start."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from comm import failure

if TYPE_CHECKING:
    from comm.communicator import Communicator

_SILENCE_S = 1.0  # the first rank to leave makes mpirun end all: rank 0 must have spoken by then


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, and only once for all ranks."""

    def error(self, message: str) -> NoReturn:
        """Say it, and end with exit code 2."""
        from comm import mpi  # noqa: PLC0415 -- as in `start_ranks`

        if mpi.launched_rank(os.environ) == 0:
            failure.say_error(f"{message}; --help lists all options")
        else:
            time.sleep(_SILENCE_S)
        sys.exit(2)


def start_ranks() -> "Communicator | None":
    """Start MPI, and see to it that all ranks end when one does; None where that fails."""
    from comm import mpi  # noqa: PLC0415 -- after --help, which must be quick

    try:
        world = mpi.world()
    except mpi.LaunchError as error:
        failure.say_error(str(error))
        return None
    failure.install(world)
    return world
