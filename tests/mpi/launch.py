"""Start a Python program on several MPI ranks."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.launch import launcher
from engine.host.mpirun import AS_ROOT

REPOSITORY = Path(__file__).parents[2]


def mpirun(
    ranks: int,
    *argv: str,
    timeout: float = 30.0,
    env: Mapping[str, str] | None = None,
    interrupt_on: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `python argv...` on some ranks and return its exit code, output and errors.

    Parameters
    ----------
    env
        Variables to set besides the present ones.
    interrupt_on
        Send Ctrl-C to mpirun as soon as it prints this line.

    Raises
    ------
    subprocess.TimeoutExpired
        If it does not end in time; nothing of it is left then.
    """
    command = [*launcher(), "-n", str(ranks), sys.executable, *argv]
    return run(*command, timeout=timeout, env=env, interrupt_on=interrupt_on)


def run(
    *command: str,
    timeout: float = 30.0,
    env: Mapping[str, str] | None = None,
    interrupt_on: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command as `mpirun` does, without MPI's launcher."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
        env={**os.environ, **AS_ROOT, "OMP_NUM_THREADS": "1", **(env or {})},
    )
    try:
        early = _read_until(process, interrupt_on) if interrupt_on else ""
        out, err = process.communicate(timeout=timeout)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return subprocess.CompletedProcess(command, process.returncode, early + out, err)


def _read_until(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdout is not None
    early = ""
    for printed in process.stdout:
        early += printed
        if printed.strip() == line:
            process.send_signal(signal.SIGINT)
            break
    return early
