"""How benchmarks start MPI ranks: with the flags that more ranks than cores want."""

import functools

from engine.host.mpirun import find_mpirun, is_open_mpi

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
