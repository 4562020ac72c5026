"""Threads that may run on all cores of the process."""

import os
import sys
import threading

import pytest

from engine.host import unpinned


@pytest.mark.skipif(sys.platform != "linux", reason="threads are pinned on Linux only")
def test_a_thread_of_a_pinned_thread_can_be_free():
    seen = []

    def work() -> None:
        seen.append(os.sched_getaffinity(0))
        unpinned.run_anywhere()
        seen.append(os.sched_getaffinity(0))

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    os.sched_setaffinity(0, before)
    assert seen == [{min(before)}, unpinned.INITIAL_CORES]
