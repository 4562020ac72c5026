"""The command ``python -m engine.run``: start a run's ranks, and end them as the user wishes."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from comm.launcher import is_launched
from engine.config.command_line import Parser, say_once
from engine.config.errors import UserError
from engine.host.mpirun import most_ranks_here, mpirun_command
from engine.host.stop_signals import listening
from engine.run.supervise import supervise

_EPILOG = """\
examples:
  python -m engine.run -n 2                                      the digits recipe, two ranks
  python -m engine.run -n 4 cifar10 --data images:~/cifar10
  python -m engine.run -n 8 --hosts a:4,b:4 vgg_a --data images:/data/imagenet --out runs/vgg
  python -m engine.run -n 4 --resume runs/vgg -- --map-by slot   options of mpirun behind --

All other options are those of python -m engine.train, which it starts: under the mpirun that belongs to this
Python, or alone where -n is 1. Ctrl-C, also SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 or SIGXCPU, ends the run after
the step it is in, with a checkpoint; Ctrl-C once more, a second later, ends it at once. The exit code is the
run's: 0 done, 2 a mistake in what was given, 130 interrupted, 1 anything else.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m engine.run",
        usage="python -m engine.run [-n RANKS] [--hosts HOSTS] [RECIPE] [OPTION ...] [-- MPIRUN_OPTION ...]",
        description="Train on several ranks: start them by mpirun, and end them with a checkpoint.",
        epilog=_EPILOG,
    )
    parser.add_argument("-n", "--ranks", type=int, default=1, metavar="RANKS", help="how many; default 1")
    parser.add_argument("--hosts", default="", metavar="HOSTS", help="where: a:2,b:2; default this host")
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for_mpirun: list[str] = []
    if "--" in given:
        cut = given.index("--")
        given, for_mpirun = given[:cut], given[cut + 1 :]
    options, for_engine = _parser().parse_known_args(given)
    is_here = not options.hosts and not for_mpirun
    mistake = _mistake_in(options.ranks, is_here=is_here)
    if mistake is not None:
        return _refused(mistake)
    if options.ranks == 1 and is_here:
        train = import_module("engine.train")  # by name: it stands above, and is what this command starts
        return int(train.main(for_engine))
    try:
        mpirun = mpirun_command(options.ranks, hosts=options.hosts, more=for_mpirun)
    except FileNotFoundError as error:
        return _refused(str(error))
    # Without the current folder, as here: nothing in it is imported by accident.
    python = [sys.executable, *(("-P",) if sys.flags.safe_path or not _is_checkout() else ())]
    try:
        return supervise([*mpirun, *python, "-m", "engine.train", *for_engine])
    except UserError as error:
        return _refused(str(error))


def _mistake_in(ranks: int, *, is_here: bool) -> str | None:
    """Return why no such ranks can be started, all of them on this machine or elsewhere too."""
    if ranks < 1:
        return f"ranks: got {ranks}; must be at least 1"
    if is_here and ranks > (most := most_ranks_here()):
        return f"ranks: got {ranks}; the memory of this machine has room for {most} at most"
    if is_launched():
        return "engine.run starts the ranks itself: under mpirun or srun use python -m engine.train"
    return None


def _is_checkout() -> bool:
    """Say whether the current folder is the one that this package lies in."""
    try:
        return Path.cwd() == Path(__file__).parents[2]
    except OSError:  # it has been removed
        return False


def _refused(message: str) -> int:
    say_once(message)
    return 2


if __name__ == "__main__":
    sys.exit(main())
