"""The processor: cores that this process may use, quotas of containers, hardware threads."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from engine.config.wording import counted
from engine.doctor.finding import NOTE, OK, Finding
from engine.host.cpu_quota import cpu_quota
from engine.host.processor import processor


@dataclass(frozen=True)
class Seen:
    """What the system says of its processors."""

    machine: int
    """Hardware threads of the machine."""
    allowed: int
    """Those of them that this process may run on."""
    quota: float
    """CPU time a second that a container allows, infinite without a limit."""
    physical: int | None
    """Cores of the machine; None if unknown."""


def cores() -> Iterator[Finding]:
    """Say how many cores a run here would use, and why not all."""
    yield Finding("processor", OK, processor())
    yield from judged(seen())


def seen() -> Seen:
    """Ask the system."""
    import psutil  # noqa: PLC0415 -- where it is missing, that is a finding of this check

    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else machine
    physical = None
    with suppress(OSError):  # no /proc
        physical = psutil.cpu_count(logical=False)
    return Seen(machine, allowed, cpu_quota(), physical)


def judged(found: Seen) -> Iterator[Finding]:
    """Say what there is to know of some processors."""
    threads = "hardware threads" if found.physical and found.physical < found.machine else "cores"
    text = f"{found.allowed} of {found.machine} {threads} may be used"
    if found.allowed < found.machine:
        yield Finding(
            "cores",
            NOTE,
            f"{text}: an affinity mask holds back the others",
            "use them with mpirun --bind-to none, srun --cpus-per-task=N, or without taskset",
        )
    else:
        yield Finding("cores", OK, text)
    if found.quota < found.allowed:
        yield Finding(
            "CPU quota",
            NOTE,
            f"a container allows the time of {found.quota:g} of them, and so many threads will compute",
            "a whole number of cores wastes none: docker run --cpus, the CPU limit of a pod",
        )
    if threads != "cores":
        yield Finding(
            "hardware threads",
            NOTE,
            f"{counted(found.physical or 0, 'core')}, each with several",
            "measure a few steps with --threads as many as cores: kernels fill a core with one thread",
        )
