"""Slurm: whether it is here, and whether this process is in one of its jobs."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from engine.config.wording import counted
from engine.doctor.finding import NOTE, OK, Finding

_PATIENCE_S = 20.0


def slurm(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Say whether Slurm is here, what its srun can start ranks by, and in which job this is."""
    path = environment.get("PATH", os.defpath)
    here = [name for name in ("srun", "sinfo") if shutil.which(name, path=path)]
    job = environment.get("SLURM_JOB_ID")
    inside = f"inside job {job}" if job else "outside of a job"
    if job and "srun" not in here:
        yield Finding(
            "Slurm", NOTE, f"{inside}, but no srun is found", "put Slurm's programs into PATH; mpirun will do"
        )
    elif not here:
        yield Finding("Slurm", OK, "not here")
    else:
        nodes = environment.get("SLURM_JOB_NUM_NODES", "")
        on = f" on {counted(int(nodes), 'node')}" if job and nodes.isdecimal() else ""
        yield Finding("Slurm", OK, f"{' and '.join(here)} found, {inside}{on}")
    if "srun" in here:
        yield _ways(path)


def _ways(path: str) -> Finding:
    """Say by which interfaces srun tells ranks of each other."""
    srun = shutil.which("srun", path=path)
    assert srun is not None
    try:
        done = subprocess.run(
            [srun, "--mpi=list"], capture_output=True, text=True, errors="replace", check=False,
            stdin=subprocess.DEVNULL, timeout=_PATIENCE_S,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("srun", NOTE, f"srun --mpi=list: {type(error).__name__}")
    ways = [each for each in ("pmix", "pmi2") if each in done.stdout + done.stderr]
    if ways:
        return Finding("srun", OK, f"starts ranks by --mpi={' or --mpi='.join(ways)}")
    return Finding(
        "srun",
        NOTE,
        "knows neither pmix (Open MPI) nor pmi2 (MPICH, Intel MPI)",
        "start ranks by lockstep run or mpirun, inside of a job",
    )
