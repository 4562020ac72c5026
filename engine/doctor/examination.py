"""All checks, one after the other, whatever one of them meets: an error or no answer is a finding, too."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from engine.config.wording import printable
from engine.doctor.cache_checks import kernel_cache
from engine.doctor.clock_checks import clock
from engine.doctor.core_checks import cores
from engine.doctor.extra_checks import extras
from engine.doctor.finding import PROBLEM, Check, Finding
from engine.doctor.memory_checks import huge_pages, memory, shared_memory
from engine.doctor.mpi_checks import mpi
from engine.doctor.python_checks import packages, python
from engine.doctor.simd_checks import simd, tiles
from engine.doctor.slurm_checks import slurm

PATIENCE_S = 90.0
"""For one check: a folder on a file server that is away never answers."""

CHECKS = (
    Check("Python", python),
    Check("packages", packages),
    Check("extras", extras),
    Check("cores", cores),
    Check("SIMD", simd),
    Check("tiles", tiles),
    Check("memory", memory),
    Check("huge pages", huge_pages),
    Check("/dev/shm", shared_memory),
    Check("kernel cache", kernel_cache),
    Check("clock", clock),
    Check("Slurm", slurm),
    Check("MPI", mpi, slow=True),
)


@dataclass
class _Answer:
    """What a check on a thread of its own has found."""

    thread: threading.Thread
    found: list[Finding] = field(default_factory=list)


def examine(checks: Sequence[Check] = CHECKS, patience_s: float = PATIENCE_S) -> Iterator[Finding]:
    """Yield what the checks find, as they find it; those that are slow last."""
    begun = {check.name: _begin(check) for check in checks if check.slow}
    for check in sorted(checks, key=lambda each: each.slow):
        answer = begun.get(check.name) or _begin(check)
        answer.thread.join(patience_s)
        if answer.thread.is_alive():
            yield Finding(check.name, PROBLEM, f"no answer after {patience_s:g} s")
        else:
            yield from answer.found


def _begin(check: Check) -> _Answer:
    def look() -> None:
        try:
            answer.found.extend(check.look())
        except BaseException as error:  # what is broken is what this command is for
            said = printable(" ".join(str(error).split())) or "no reason given"
            answer.found.append(
                Finding(check.name, PROBLEM, f"cannot be looked at: {type(error).__name__}: {said}")
            )

    answer = _Answer(threading.Thread(target=look, daemon=True))
    answer.thread.start()
    return answer
