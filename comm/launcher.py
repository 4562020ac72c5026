"""What a launcher (mpirun, srun) tells its processes by environment variables, before MPI starts.

The only module of `comm` that reads or writes the environment.
"""

import os
from collections.abc import Mapping

RANKS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables by which launchers tell a process how many they started; the first one set counts."""

_RANK = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
_RANK_ON_HOST = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
_JOB = ("PMIX_NAMESPACE", "SLURM_JOB_ID", "SLURM_STEP_ID")
_OF_SRUN = "SLURM_STEP_NUM_TASKS"
_SRUN_FLAGS = (("Open MPI", "--mpi=pmix"), ("MPICH", "--mpi=pmi2"), ("Intel", "--mpi=pmi2"))
_CONNECTIONS = (
    "PMIX_RANK",
    "PMI_RANK",
    "PMI_FD",
    "PMI_PORT",
)  # launchers that tell their number through MPI only


def launched_ranks(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes that the launcher started; 1 without a launcher.

    Slurm's SLURM_NTASKS is no evidence of a launcher: it is set inside a batch script, too, where one process
    runs. SLURM_STEP_NUM_TASKS is set only by srun. mpirun's variable comes first, because mpirun may have
    started its daemons by srun.
    """
    return _first_number(environment, RANKS, 1)


def launched_rank(environment: Mapping[str, str] = os.environ) -> int:
    """Return this process's rank; 0 without a launcher."""
    return _first_number(environment, _RANK, 0)


def launched_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return what mpirun or srun calls the job of this process; None where they do not say."""
    names = [environment[name] for name in _JOB if name in environment]
    return " ".join(names) or None


def is_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a launcher has started this process, perhaps as the only one."""
    return any(name in environment for name in (*RANKS, *_CONNECTIONS))


def may_have_others(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a launcher has started more processes than this one, or does not say how many."""
    if any(name in environment for name in RANKS):
        return launched_ranks(environment) > 1
    return is_launched(environment)


def is_first_of_host(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this rank is the first one on its host, as far as the launcher says."""
    return _first_number(environment, _RANK_ON_HOST, 0) == 0


def ends_the_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the launcher ends all ranks as soon as one exits.

    Open MPI's mpirun does, unless told to survive lost ranks, and prints less than MPI_Abort. Slurm does not.
    """
    return "PRTE_LAUNCHED" in environment and not survives_losses(environment)


def survives_losses(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether Open MPI lets the other ranks go on when one dies: ``mpirun --with-ft ulfm``."""
    return environment.get("OMPI_MCA_mpi_ft_enable", "0") not in ("0", "false", "no", "disabled")


def flag_of_srun(library: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the flag by which srun tells an MPI library of the other ranks; "" under another launcher.

    Parameters
    ----------
    library
        What the library calls itself, such as "Open MPI v5.0.8".
    """
    *of_mpirun, _ = _RANK_ON_HOST  # which may have started its daemons by srun
    if _OF_SRUN not in environment or any(name in environment for name in of_mpirun):
        return ""
    return next((flag for name, flag in _SRUN_FLAGS if name in library), "")


def _first_number(environment: Mapping[str, str], names: tuple[str, ...], otherwise: int) -> int:
    found = (environment[name] for name in names if environment.get(name, "").isdecimal())
    return int(next(found, otherwise))
