"""How the probe of MPI is started: by mpirun, by whoever has started this process, or alone."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from comm.launcher import launched_ranks, may_have_others
from engine.doctor.mpi_probe import answer_in
from engine.host.own_python import own_python

RANKS = 2
"""That are started where nobody else has started any."""

PATIENCE_S = 60.0
_TO_END_S = 5.0


@dataclass(frozen=True)
class Probe:
    """Ranks that have started MPI, or have not."""

    by: str
    """What has started them: "mpirun", "" for a process alone, or "the launcher" of this process."""
    ranks: int
    """That should be there; 0 if unknown."""
    answer: Mapping[str, Any] | None
    """What they say of MPI: see `engine.doctor.mpi_probe`."""
    said: str = ""
    """Of what they have printed what may say why there is no answer."""


def probe_mpi(mpirun: Sequence[str]) -> Probe:
    """Start the probe.

    Parameters
    ----------
    mpirun
        Its command for `RANKS` ranks; empty where there is none.
    """
    probe = [*own_python(), "-m", "engine.doctor.mpi_probe"]
    if may_have_others():  # each rank starts its own, which takes its place
        return _answered("the launcher", launched_ranks(), probe, os.environ)
    if not mpirun:
        return _answered("", 1, probe, os.environ)
    from engine.host.mpirun import mpirun_environment  # noqa: PLC0415 -- it needs psutil

    return _answered("mpirun", RANKS, [*mpirun, *probe], mpirun_environment())


def _answered(by: str, ranks: int, command: Sequence[str], environment: Mapping[str, str]) -> Probe:
    try:
        process = subprocess.Popen(
            command, env=environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        return Probe(by, ranks, None, str(error))
    try:
        printed, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        _end(process)
        return Probe(by, ranks, None, f"no answer after {PATIENCE_S:g} s")
    said = _first_line(errors) or _first_line(printed) or f"ended with exit code {process.returncode}"
    return Probe(by, ranks, answer_in(printed), said)


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process, first as mpirun ends its ranks."""
    for end in (process.terminate, process.kill):
        end()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_TO_END_S)
            return


def _first_line(text: str) -> str:
    """Return the first line that says something: launchers draw boxes around theirs."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if any(each.isalpha() for each in line)), "")
