"""What launchers say of lost ranks, in their own words, becomes one clause."""

import pytest

from engine.run.losses import exit_code_in, is_about_a_loss, loss_in

OPEN_MPI = """\
--------------------------------------------------------------------------
prterun noticed that process rank 1 with PID 22445 on node vm exited on
signal 9 (Killed).
--------------------------------------------------------------------------
"""
OPEN_MPI_HOST = """\
--------------------------------------------------------------------------
PRTE has lost communication with a remote daemon.

  HNP daemon   : [prterun-vm-22717@0,0] on node vm
  Remote daemon: [prterun-vm-22717@0,2] on node b

This is usually due to either a failure of the TCP network
connection to the node, or possibly an internal failure of
the daemon itself. We cannot recover from this failure, and
therefore will terminate the job.
--------------------------------------------------------------------------
"""
OPEN_MPI_START = """\
------------------------------------------------------------
A daemon failed to report back after being spawned. This could
be due to several factors, including inability to find the
daemon executable, or the executable was unable to find its
required supporting libraries. In some cases, the daemon was
able to execute, but was unable to complete a TCP connection
back to prterun:

  Local host:    vm
  Remote host:   b
  Daemon exit status: 255
------------------------------------------------------------
"""
MPICH = """\

===================================================================================
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   PID 22449 RUNNING AT vm
=   EXIT CODE: 9
=   CLEANING UP REMAINING PROCESSES
=   YOU CAN IGNORE THE BELOW CLEANUP MESSAGES
===================================================================================
YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)
This typically refers to a problem with your application.
Please see the FAQ page for debugging suggestions
"""
INTEL = """\
===================================================================================
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   RANK 1 PID 22462 RUNNING AT vm
=   KILLED BY SIGNAL: 11 (Segmentation fault)
===================================================================================
"""
SRUN = """\
srun: error: n1: task 1: Killed
srun: launch/slurm: _step_signal: Terminating StepId=8.0
slurmstepd-n1: error: *** STEP 8.0 ON n1 CANCELLED AT 2026-01-01T11:30:06 ***
srun: error: n1: task 0: Exited with exit code 143
srun: error: n1: task 2: Terminated
srun: Force Terminated StepId=8.0
"""
SRUN_EXIT = """\
srun: error: n1: task 1: Exited with exit code 2
srun: launch/slurm: _step_signal: Terminating StepId=9.0
srun: error: n1: tasks 0,2: Terminated
"""


@pytest.mark.parametrize(
    ("words", "loss"),
    [
        (OPEN_MPI, "rank 1 on vm was ended by SIGKILL"),
        (OPEN_MPI_HOST, "host b is lost"),
        (OPEN_MPI_START, "host b cannot be reached"),
        (MPICH, "a rank on vm was ended by SIGKILL"),
        (INTEL, "rank 1 on vm was ended by SIGSEGV"),
        (SRUN, "rank 1 on n1 was ended by SIGKILL"),
        ("srun: error: n2: task 3: Out Of Memory", "rank 3 on n2 was ended by Slurm: it had no more memory"),
        ("srun: error: Node failure on n2\nsrun: error: n1: task 0: Killed\n", "host n2 is lost"),
        (SRUN_EXIT, None),
        ("rank 1: ValueError: no such layer\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_was_lost_is_one_clause(words: str, loss: str | None) -> None:
    assert loss_in(words.splitlines(keepends=True)) == loss


@pytest.mark.parametrize("note", [OPEN_MPI, OPEN_MPI_HOST, OPEN_MPI_START, INTEL])
def test_a_note_about_a_loss_is_known(note: str) -> None:
    assert is_about_a_loss(note)


@pytest.mark.parametrize("line", [*SRUN.splitlines(), *MPICH.splitlines()[-3:]])
def test_lines_that_belong_to_it_are_known(line: str) -> None:
    assert is_about_a_loss(line)


@pytest.mark.parametrize("line", ["error: out: no room", "rank 0: OSError: it is gone", "srun: job 3 queued"])
def test_other_lines_are_not(line: str) -> None:
    assert not is_about_a_loss(line)


@pytest.mark.parametrize(("words", "code"), [(SRUN_EXIT, 2), (SRUN, None), (OPEN_MPI, None)])
def test_of_several_ranks_that_srun_ends_the_first_one_has_the_exit_code(
    words: str, code: int | None
) -> None:
    assert exit_code_in(words.splitlines()) == code
