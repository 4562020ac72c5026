"""Parts of every command: the parser, which refuses options in one line, and the start of the ranks."""

import argparse
import logging
import os
import re
import sys
import time
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NoReturn

from comm import failure
from comm.launcher import RANKS, is_first_of_host, launched_rank, launched_ranks
from engine.config.errors import UserError
from engine.config.numba_settings import check_numba_settings
from engine.config.wording import did_you_mean

if TYPE_CHECKING:
    from comm.communicator import Communicator

_SILENCE_S = 1.0  # the first rank to leave makes mpirun end all: rank 0 must have spoken by then
_UNKNOWN = "unrecognized arguments: "  # argparse's words
_AS_MODULE = "python -m engine."  # how usage lines name a command, which may have been called otherwise
_CHOICE = re.compile(r"invalid choice: '(?P<got>[^']*)' \(choose from (?P<allowed>.*)\)")


class Parser(argparse.ArgumentParser):
    """A parser that refuses options in one line, which rank 0 alone prints.

    Unless told otherwise, help keeps its lines as they are written, and options may not be abbreviated. Its
    usage names the command as the user has called it.

    Parameters
    ----------
    alone
        The command is the work of one process: several ranks, which would each do all of it and write the
        same file at once, are refused.
    kernels
        The command may run kernels: variables by which none would run are refused.
    """

    def __init__(self, *, alone: bool = False, kernels: bool = True, **settings: Any) -> None:
        self._alone, self._kernels = alone, kernels
        for name in ("prog", "usage"):
            if _is_lockstep(sys.argv[0]) and settings.get(name):
                settings[name] = settings[name].replace(_AS_MODULE, "lockstep ")
        usual = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**{**usual, **settings})

    def parse_known_args(self, *arguments: Any, **settings: Any) -> Any:
        """Parse, and refuse ranks that are too many and variables by which no kernel would run."""
        parsed = super().parse_known_args(*arguments, **settings)
        try:
            if self._alone:
                _check_alone(self.prog)
            if self._kernels:
                check_numba_settings()
        except UserError as error:
            say_once(str(error))
            sys.exit(2)
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print the message, with the option that was perhaps meant, and end with exit code 2."""
        if message.startswith(_UNKNOWN):
            got = message.removeprefix(_UNKNOWN).split()[0].partition("=")[0]
            message += did_you_mean(got, self._option_string_actions)
        elif choice := _CHOICE.search(message):
            message += did_you_mean(choice["got"], re.findall(r"[\w.-]+", choice["allowed"]))
        say_once(f"{message}; --help lists all options")
        sys.exit(2)


def _check_alone(command: str) -> None:
    ranks = launched_ranks()
    if ranks > 1:
        variable = next(name for name in RANKS if name in os.environ)
        raise UserError(
            f"{command}: {ranks} ranks were started, each of which would do all of it; start it without "
            f"mpirun or srun (or unset {variable}, where each has files of its own)"
        )


def _is_lockstep(program: str) -> bool:
    """Say whether a program is the command `lockstep`, or the package of that name."""
    path = PurePath(program)
    return "lockstep" in (path.name, path.parent.name if path.name == "__main__.py" else "")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that write a file, without which they leave one that is there alone."""
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def add_best(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that take a run, of which they read the newest checkpoint."""
    parser.add_argument("--best", action="store_true", help="of a run the best checkpoint, not the newest")


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that put samples through a network."""
    parser.add_argument(
        "--model", metavar="FILE.py:FUNCTION", default="", help="where your own network lies, if it has moved"
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="kernel threads; 0: as many as cores; default 0"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=0,
        metavar="N",
        help="samples that are computed at once; 0: as many as fill the kernels, 32 to 256; default 0",
    )


def start_ranks() -> "Communicator | None":
    """Start MPI, if there are several ranks, so that all end when one fails.

    Where MPI does not start, an error is printed, and None returned.
    """
    from comm import mpi  # noqa: PLC0415 -- after --help, which must be quick

    try:
        world = mpi.world()
    except mpi.LaunchError as error:
        say_once(str(error))
        return None
    failure.install(world)
    if not is_first_of_host():  # what is wrong with the kernels' cache is wrong for all ranks of the host
        logging.getLogger("lockstep.kernels").setLevel(logging.ERROR)
    return world


def say_once(message: str) -> None:
    """Print an error that all ranks have found: rank 0 does, before the others leave."""
    if launched_rank() == 0:
        failure.say_error(message)
    else:
        time.sleep(_SILENCE_S)
