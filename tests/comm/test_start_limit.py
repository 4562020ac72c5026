"""MPI that does not start is no hang."""

import signal
import subprocess
import sys
import time

import pytest

CODE = """
import time
from comm.start_limit import start_limit
with start_limit({rank}, {seconds}):
    time.sleep({takes})
print("started", flush=True)
"""


def run(rank: int, seconds: float, takes: float) -> tuple[int, str, str]:
    code = CODE.format(rank=rank, seconds=seconds, takes=takes)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_what_takes_too_long_is_ended_and_rank_0_says_why() -> None:
    line = "error: MPI has not started on all ranks after 0 s: one has died before\n"
    assert run(0, 0.2, 60) == (1, "", line)
    assert run(1, 0.2, 60) == (1, "", "")


def test_what_is_in_time_goes_on_and_leaves_nothing() -> None:
    started = time.monotonic()
    assert run(0, 20, 0) == (0, "started\n", "")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_ends_meanwhile_takes_the_other_one_with_it(number: signal.Signals) -> None:
    command = [sys.executable, "-c", CODE.format(rank=0, seconds=60, takes=60)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        time.sleep(1)
        process.send_signal(number)
        assert process.wait(10) != 0
        assert process.stdout is not None
        assert process.stdout.read() == b""  # nobody holds the other end any more
