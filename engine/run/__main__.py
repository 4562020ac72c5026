"""The command ``python -m engine.run``: start a run's ranks, and end them as the user wishes."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType

from comm.launcher import is_launched
from engine.config.command_line import Parser, say_once
from engine.config.errors import UserError
from engine.host.mpirun import most_ranks_here, mpirun_command, srun_command
from engine.host.own_python import own_python
from engine.host.stop_signals import listening
from engine.run.supervise import supervise

_EPILOG = """\
examples:
  python -m engine.run -n 2                                      the digits recipe, two ranks
  python -m engine.run -n 4 cifar10 --data images:~/cifar10
  python -m engine.run -n 8 --hosts a:4,b:4 vgg_a --data images:/data/imagenet --out runs/vgg
  python -m engine.run -n 4 --resume runs/vgg -- --map-by slot   options of mpirun behind --
  python -m engine.run -n 8 --hosts a:4,b:4 --restarts 5 --min-ranks 4 vgg_a --data images:/data/imagenet
  python -m engine.run -n 16 --launcher srun --restarts 5 my.toml -- --mpi=pmi2    in a Slurm job

All other options are those of python -m engine.train, which it starts: under the mpirun that belongs to this
Python, or alone where -n is 1. Ctrl-C, also SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 or SIGXCPU, ends the run after
the step it is in, with a checkpoint; Ctrl-C once more, a second later, ends it at once. The exit code is the
run's: 0 done, 2 a mistake in what was given, 130 interrupted, 1 anything else.

Where mpirun is Open MPI's (built with ULFM, as pip's is), a run that loses ranks goes on without them at
once, to the same bits; a line says so.

With --restarts N a run that loses a rank, a host or mpirun itself goes on from its newest whole checkpoint,
to the same bits. A line says what was lost, after which step, and from where it goes on, 1 s later; then 2,
4 and so on, up to 60. It gives up after N restarts without a new checkpoint: each new one begins the count
anew, so set how often it saves (--checkpoint-steps, --checkpoint-every). A mistake of the user's (exit code
2) and an interruption (130) are never restarted; Ctrl-C ends it at once while it waits. docs/surviving.md
has the details, and a script for Slurm.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.run",
        usage="python -m engine.run [-n RANKS] [--hosts HOSTS] [RECIPE] [OPTION ...] [-- MPIRUN_OPTION ...]",
        description="Train on several ranks: start them by mpirun, and end them with a checkpoint.",
        epilog=_EPILOG,
    )
    parser.add_argument("-n", "--ranks", type=int, default=1, metavar="RANKS", help="how many; default 1")
    parser.add_argument("--hosts", default="", metavar="HOSTS", help="where: a:2,b:2; default this host")
    parser.add_argument(
        "--restarts",
        type=int,
        default=0,
        metavar="N",
        help="start again after a lost rank or host, N times without a new checkpoint at most; default 0",
    )
    parser.add_argument(
        "--min-ranks",
        type=int,
        default=1,
        metavar="M",
        help="with --restarts and --hosts: hosts that are gone are left out while M ranks remain; default 1",
    )
    parser.add_argument(
        "--survive",
        choices=("on", "off"),
        default="on",
        help="on: ranks go on when others die, if mpirun is Open MPI's with ULFM; off: all end; default on",
    )
    parser.add_argument(
        "--launcher",
        choices=("mpirun", "srun"),
        default="mpirun",
        help="what starts the ranks; default mpirun",
    )
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for_mpirun: list[str] = []
    if "--" in given:
        cut = given.index("--")
        given, for_mpirun = given[:cut], given[cut + 1 :]
    options, for_engine = make_parser().parse_known_args(given)
    mistake = _mistake_in(options, for_mpirun)
    if mistake is not None:
        return _refused(mistake)
    if options.ranks == 1 and _is_here(options, for_mpirun) and not options.restarts:
        return int(_train_command().main(for_engine))
    try:
        return _started(options, for_mpirun, for_engine)
    except (UserError, FileNotFoundError) as error:
        return _refused(str(error))


def _started(options: argparse.Namespace, for_mpirun: list[str], for_engine: list[str]) -> int:
    """Start the ranks, and again where that is wanted; return the exit code."""
    train = [*own_python(), "-m", "engine.train"]
    launch = _launch(options, for_mpirun)
    command = launch(options.ranks, options.hosts)
    if not options.restarts:
        return supervise([*command, *train, *for_engine])
    restarts = import_module("engine.run.restarts")  # late: it imports more, and not every run wants it
    start = _train_command().start_of(for_engine)
    placement = restarts.Placement(
        options.ranks,
        options.hosts,
        launch,
        launcher=options.launcher if command else "the run",
        parts=restarts.parts_of(start),
    )
    limits = restarts.Restarts(options.restarts, options.min_ranks)
    return int(
        restarts.supervise_with_restarts(restarts.Command(train, for_engine, start), placement, limits)
    )


def _launch(options: argparse.Namespace, more: list[str]) -> Callable[[int, str], list[str]]:
    """Return what makes the launcher's command for some ranks on some hosts; one rank here needs none."""
    if options.launcher == "srun":
        return lambda ranks, hosts: srun_command(ranks, hosts=hosts, more=more)
    if options.ranks == 1 and _is_here(options, more):
        return lambda *_: []
    survive = options.survive == "on"
    return lambda ranks, hosts: mpirun_command(ranks, hosts=hosts, survive=survive, more=more)


def _train_command() -> ModuleType:
    return import_module("engine.train")  # by name: it stands above, and is what this command starts


def _is_here(options: argparse.Namespace, for_mpirun: list[str]) -> bool:
    """Say whether all ranks will be on this machine for certain."""
    return not options.hosts and not for_mpirun and options.launcher == "mpirun"


def _mistake_in(options: argparse.Namespace, for_mpirun: list[str]) -> str | None:
    """Return why no such ranks can be started."""
    ranks, least = options.ranks, options.min_ranks
    if ranks < 1:
        return f"ranks: got {ranks}; must be at least 1"
    if options.restarts < 0:
        return f"restarts: got {options.restarts}; must be at least 0"
    if not 1 <= least <= ranks:
        return f"min-ranks: got {least}; must be from 1 to the number of ranks, {ranks}"
    if _is_here(options, for_mpirun) and ranks > (most := most_ranks_here()):
        return f"ranks: got {ranks}; the memory of this machine has room for {most} at most"
    if is_launched():
        return "engine.run starts the ranks itself: under mpirun or srun use python -m engine.train"
    return None


def _refused(message: str) -> int:
    say_once(message)
    return 2


if __name__ == "__main__":
    sys.exit(main())
